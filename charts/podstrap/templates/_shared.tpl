{{/* What the controller and every task have alike: clearml.conf, proxy, certificates. */}}

{{- define "podstrap.sharedEnv" -}}
{{- if include "podstrap.configurationSecret" . }}
- {name: CLEARML_CONFIG_FILE, value: /etc/podstrap-clearml/clearml.conf}
{{- end }}
{{- if eq .Values.agentk8sglue.clearmlcheckCertificate false }}
- {name: CLEARML_API_HOST_VERIFY_CERT, value: "false"}
{{- end }}
{{- with .Values.podstrap.proxy }}
{{- if or .http .https }}
{{- with .http }}
- {name: HTTP_PROXY, value: {{ . | quote }}}
- {name: http_proxy, value: {{ . | quote }}}
{{- end }}
{{- with .https }}
- {name: HTTPS_PROXY, value: {{ . | quote }}}
- {name: https_proxy, value: {{ . | quote }}}
{{- end }}
{{- $without := printf "$(KUBERNETES_SERVICE_HOST),localhost,127.0.0.1,.svc,.cluster.local%s" (empty .exceptions | ternary "" (printf ",%s" .exceptions)) }}
- {name: NO_PROXY, value: {{ $without | quote }}}
- {name: no_proxy, value: {{ $without | quote }}}
{{- end }}
{{- end }}
{{- if or .Values.podstrap.certificates.configMap .Values.podstrap.certificates.secret }}
{{- range list "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" "CURL_CA_BUNDLE" "GIT_SSL_CAINFO" "PIP_CERT" }}
- {name: {{ . }}, value: /etc/podstrap-certificates/ca.crt}
{{- end }}
{{- end }}
{{- end }}

{{- define "podstrap.sharedVolumes" -}}
{{- with include "podstrap.configurationSecret" . }}
- name: clearml-configuration
  secret:
    secretName: {{ . | quote }}
    items: [{key: clearml.conf, path: clearml.conf}]
{{- end }}
{{- with .Values.podstrap.certificates }}
{{- if .configMap }}
- name: certificates
  configMap:
    name: {{ .configMap | quote }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- else if .secret }}
- name: certificates
  secret:
    secretName: {{ .secret | quote }}
    items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- end }}

{{- define "podstrap.sharedMounts" -}}
{{- if include "podstrap.configurationSecret" . }}
- {name: clearml-configuration, mountPath: /etc/podstrap-clearml, readOnly: true}
{{- end }}
{{- if or .Values.podstrap.certificates.configMap .Values.podstrap.certificates.secret }}
- {name: certificates, mountPath: /etc/podstrap-certificates, readOnly: true}
{{- end }}
{{- end }}

{{/* Mounts of files given as text: (dict "files" LIST "volume" NAME). */}}
{{- define "podstrap.fileMounts" -}}
{{- $volume := .volume }}
{{- range .files }}
- {name: {{ $volume }}, mountPath: {{ printf "%s/%s" (trimSuffix "/" .folderPath) .name | quote }}, subPath: {{ .name | quote }}, readOnly: true}
{{- end }}
{{- end }}
