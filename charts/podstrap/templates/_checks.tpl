{{/* What must not be installed: each with what to do. */}}

{{- define "podstrap.checks" -}}
{{- $made := not (or .Values.agentk8sglue.credentialsSecret .Values.clearml.existingAgentk8sglueSecret) -}}
{{- if $made -}}
{{- range $name := list "agentk8sglueKey" "agentk8sglueSecret" -}}
{{- $value := get $.Values.clearml $name | default "" | toString -}}
{{- if include "podstrap.placeholder" $value -}}
{{- fail (printf "\n\nclearml.%s is %s. Create credentials on ClearML's web page (Settings, Workspace, Create new credentials) and set clearml.agentk8sglueKey and clearml.agentk8sglueSecret, or name an existing Secret by clearml.existingAgentk8sglueSecret (keys agentk8sglue_key, agentk8sglue_secret) or agentk8sglue.credentialsSecret (keys CLEARML_API_ACCESS_KEY, CLEARML_API_SECRET_KEY)." $name (ternary "empty" "a placeholder" (eq $value ""))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.imageCredentials -}}
{{- if and .enabled (not .existingSecret) -}}
{{- if or (not .registry) (not .username) (not .password) (eq .username "someone") (eq .password "pwd") -}}
{{- fail "\n\nimageCredentials is enabled with an empty or placeholder registry, username or password. Set them, or name an existing Secret by imageCredentials.existingSecret, or set imageCredentials.enabled: false." -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.podstrap -}}
{{- if and .metrics.enabled (eq (int .metrics.port) (int .healthPort)) -}}
{{- fail "\n\npodstrap.metrics.port and podstrap.healthPort are the same: a container's ports have one name each." -}}
{{- end -}}
{{- if not .metrics.enabled -}}
{{- range $name := list "podMonitor" "prometheusRule" "dashboard" -}}
{{- if (get $.Values.podstrap.metrics $name).enabled -}}
{{- fail (printf "\n\npodstrap.metrics.%s is enabled, podstrap.metrics is not: there would be nothing to scrape." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $cache := .Values.podstrap.cache -}}
{{- $volumes := 0 -}}
{{- if include "podstrap.cacheClaim" . }}{{ $volumes = add1 $volumes }}{{ end -}}
{{- if $cache.hostPath }}{{ $volumes = add1 $volumes }}{{ end -}}
{{- if (.Values.agentk8sglue.cache | default dict).volume }}{{ $volumes = add1 $volumes }}{{ end -}}
{{- if gt (int $volumes) 1 -}}
{{- fail "\n\nThe cache has more than one place. Keep one of podstrap.cache.persistentVolumeClaim, podstrap.cache.hostPath and agentk8sglue.cache.volume." -}}
{{- end -}}
{{- range $name, $value := pick .Values.podstrap.proxy "http" "https" -}}
{{- if contains "@" ($value | default "") -}}
{{- fail (printf "\n\npodstrap.proxy.%s holds a user or password, which would stand readable in the Deployment and in every task's pod. Give the variables by reference to a Secret instead: agentk8sglue.extraEnvs and agentk8sglue.basePodTemplate.env, with valueFrom.secretKeyRef." $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "apiServerUrlReference" "webServerUrlReference" "fileServerUrlReference" -}}
{{- $value := get $.Values.agentk8sglue $name | default "" -}}
{{- if and (or $value (eq $name "apiServerUrlReference")) (or (not (regexMatch "^https?://" $value)) (contains "@" $value)) -}}
{{- fail (printf "\n\nagentk8sglue.%s must be an http:// or https:// address without user or password." $name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.podstrap.certificates -}}
{{- if and .configMap .secret -}}
{{- fail "\n\nKeep one of podstrap.certificates.configMap and podstrap.certificates.secret." -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Empty, or what the official chart and its documentation show instead of a key. */}}
{{- define "podstrap.placeholder" -}}
{{- $plain := . | trim | lower -}}
{{- if or (eq $plain "") (has $plain (list "accesskey" "secretkey" "access_key" "secret_key" "key" "secret" "changeme" "change-me" "xxx" "todo")) (regexMatch "^(<.*>|\\.+|…|your[-_ ].*|\\$\\{?[a-z_]+\\}?)$" $plain) -}}
true
{{- end -}}
{{- end }}
