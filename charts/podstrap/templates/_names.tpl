{{/* Names, labels and the namespaces of Jobs. */}}

{{- define "podstrap.fullname" -}}
{{- .Values.podstrap.fullnameOverride | default (contains "podstrap" .Release.Name | ternary .Release.Name (printf "%s-podstrap" .Release.Name)) | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "podstrap.instance" -}}
{{- .Values.agentk8sglue.instance | default .Release.Name -}}
{{- end }}

{{- define "podstrap.role" -}}
{{- printf "podstrap-%s" (include "podstrap.instance" .) | lower -}}
{{- end }}

{{/* controller/cluster/lease_name.py */}}
{{- define "podstrap.lease" -}}
{{- regexReplaceAll "[^a-z0-9-]+" (include "podstrap.instance" . | lower) "-" | printf "podstrap-%s" | trunc 63 | trimAll "-" -}}
{{- end }}

{{- define "podstrap.selector" -}}
app.kubernetes.io/name: podstrap
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "podstrap.labels" -}}
app.kubernetes.io/name: podstrap
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "podstrap.namespace" -}}
{{- .Values.agentk8sglue.namespace | default .Release.Namespace -}}
{{- end }}

{{/* Where Jobs are made, the default one first, as controller/permissions.py counts them; a JSON list. */}}
{{- define "podstrap.namespaces" -}}
{{- $found := list (include "podstrap.namespace" .) -}}
{{- if kindIs "map" .Values.agentk8sglue.queues -}}
{{- range $name := keys .Values.agentk8sglue.queues | sortAlpha -}}
{{- with get $.Values.agentk8sglue.queues $name -}}
{{- with .namespace }}{{ $found = append $found . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end }}

{{/* Those, and the controller's own: where Secrets must be. */}}
{{- define "podstrap.secretNamespaces" -}}
{{- append (include "podstrap.namespaces" . | fromJsonArray) .Release.Namespace | uniq | toJson -}}
{{- end }}

{{- define "podstrap.serviceAccount" -}}
{{- .Values.agentk8sglue.serviceExistingAccountName | default (include "podstrap.fullname" .) -}}
{{- end }}

{{- define "podstrap.taskServiceAccount" -}}
{{- .Values.podstrap.taskServiceAccount.name | default (printf "%s-task" (include "podstrap.fullname" .)) -}}
{{- end }}

{{- define "podstrap.image" -}}
{{- $image := .Values.podstrap.image -}}
{{- $registry := $image.registry | default .Values.global.imageRegistry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion -}}
{{- end }}

{{- define "podstrap.pullSecret" -}}
{{- if .Values.imageCredentials.enabled -}}
{{- .Values.imageCredentials.existingSecret | default (printf "%s-pull" (include "podstrap.fullname" .)) -}}
{{- end -}}
{{- end }}

{{/* The Secret with ClearML's credentials, and its two keys; as JSON. */}}
{{- define "podstrap.credentials" -}}
{{- $glue := .Values.agentk8sglue -}}
{{- $access := "CLEARML_API_ACCESS_KEY" -}}
{{- $secret := "CLEARML_API_SECRET_KEY" -}}
{{- $name := $glue.credentialsSecret -}}
{{- if not $name -}}
{{- $name = .Values.clearml.existingAgentk8sglueSecret -}}
{{- if $name -}}
{{- $access = "agentk8sglue_key" -}}
{{- $secret = "agentk8sglue_secret" -}}
{{- else -}}
{{- $name = printf "%s-clearml" (include "podstrap.fullname" .) -}}
{{- end -}}
{{- end -}}
{{- $keys := $glue.credentialsSecretKeys | default dict -}}
{{- dict "name" $name "accessKey" ($keys.accessKey | default $access) "secretKey" ($keys.secretKey | default $secret) | toJson -}}
{{- end }}

{{/* The Secret with clearml.conf; empty when there is none. */}}
{{- define "podstrap.configurationSecret" -}}
{{- if .Values.clearml.existingClearmlConfigSecret -}}
{{- .Values.clearml.existingClearmlConfigSecret -}}
{{- else if .Values.clearml.clearmlConfig -}}
{{- printf "%s-clearml-conf" (include "podstrap.fullname" .) -}}
{{- end -}}
{{- end }}
