{{/*
The controller's settings file. Keys that are the controller's go through as they stand (files/settings-keys.yaml is
written from its model); the template of tasks gets what the chart's other sections ask for.
*/}}

{{- define "podstrap.settings" -}}
{{- $glue := .Values.agentk8sglue -}}
{{- $rest := dict -}}
{{- range .Files.Get "files/settings-keys.yaml" | fromYamlArray -}}
{{- $value := get $glue . -}}
{{- if not (or (eq (kindOf $value) "invalid") (eq (toString $value) "") (has . (list "queue" "queues"))) -}}
{{- $_ := set $rest . $value -}}
{{- end -}}
{{- end -}}
{{- $credentials := include "podstrap.credentials" . | fromJson -}}
{{- $_ := set $rest "instance" (include "podstrap.instance" .) -}}
{{- $_ := set $rest "namespace" (include "podstrap.namespace" .) -}}
{{- $_ := set $rest "credentialsSecret" $credentials.name -}}
{{- $_ := set $rest "credentialsSecretKeys" (pick $credentials "accessKey" "secretKey") -}}
{{- $_ := set $rest "basePodTemplate" (include "podstrap.basePodTemplate" . | fromYaml) -}}
{{- with include "podstrap.cacheVolume" . | fromYaml -}}
{{- $_ := set $rest "cache" (merge (dict "volume" .) ($glue.cache | default dict)) -}}
{{- end -}}
# Queues in order of priority.
queues:
{{- include "podstrap.queues" . | trim | nindent 2 }}
{{ toYaml $rest }}
{{- end }}

{{/* Names of `queue` first, in their order; then those of `queues`. Text, since a mapping would lose the order. */}}
{{- define "podstrap.queues" -}}
{{- $queues := .Values.agentk8sglue.queues -}}
{{- $names := list -}}
{{- range splitList "," (.Values.agentk8sglue.queue | default "") -}}
{{- with trim . }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
{{- if kindIs "map" $queues -}}
{{- $names = concat $names (keys $queues | sortAlpha) | uniq -}}
{{- else if $queues -}}
{{- $names = concat $names $queues | uniq -}}
{{- end -}}
{{- range $names | default (list "default") }}
{{ toJson . }}:
{{- $settings := dict -}}
{{- if kindIs "map" $queues }}{{ $settings = get $queues . | default dict }}{{ end -}}
{{- if $settings }}{{ toYaml $settings | nindent 2 }}{{ else }} {}{{ end -}}
{{- end }}
{{- end }}

{{- define "podstrap.basePodTemplate" -}}
{{- $base := deepCopy (.Values.agentk8sglue.basePodTemplate | default dict) -}}
{{- $files := $base.fileMounts -}}
{{- $base = omit $base "fileMounts" -}}
{{- $spec := $base.spec | default dict -}}
{{- $env := include "podstrap.sharedEnv" . | fromYamlArray -}}
{{- $given := list -}}
{{- range $base.env }}{{ $given = append $given .name }}{{ end -}}
{{- range $env -}}
{{- if not (has .name $given) }}{{ $_ := set $base "env" (append ($base.env | default list) .) }}{{ end -}}
{{- end -}}
{{- with include "podstrap.sharedVolumes" . | fromYamlArray -}}
{{- $_ := set $base "volumes" (concat ($base.volumes | default list) .) -}}
{{- end -}}
{{- with include "podstrap.sharedMounts" . | fromYamlArray -}}
{{- $_ := set $base "volumeMounts" (concat ($base.volumeMounts | default list) .) -}}
{{- end -}}
{{- if $files -}}
{{- $secret := dict "secretName" (printf "%s-task-files" (include "podstrap.fullname" .)) -}}
{{- $_ := set $base "volumes" (append ($base.volumes | default list) (dict "name" "file-mounts" "secret" $secret)) -}}
{{- $mounts := include "podstrap.fileMounts" (dict "files" $files "volume" "file-mounts") | fromYamlArray -}}
{{- $_ := set $base "volumeMounts" (concat ($base.volumeMounts | default list) $mounts) -}}
{{- end -}}
{{- with include "podstrap.pullSecret" . -}}
{{- $_ := set $base "imagePullSecrets" (append ($base.imagePullSecrets | default list) (dict "name" .)) -}}
{{- end -}}
{{- if and .Values.podstrap.taskServiceAccount.create (not $base.serviceAccountName) (not $spec.serviceAccountName) -}}
{{- $_ := set $base "serviceAccountName" (include "podstrap.taskServiceAccount" .) -}}
{{- end -}}
{{- if and (include "podstrap.cacheClaim" .) .Values.podstrap.cache.fsGroup -}}
{{- $context := $base.podSecurityContext | default dict -}}
{{- $inner := $spec.securityContext | default dict -}}
{{- if not (or (hasKey $context "fsGroup") (hasKey $inner "fsGroup")) -}}
{{- $group := dict "fsGroup" .Values.podstrap.cache.fsGroup "fsGroupChangePolicy" "OnRootMismatch" -}}
{{- $_ := set $base "podSecurityContext" (merge $context $group) -}}
{{- end -}}
{{- end -}}
{{- toYaml $base -}}
{{- end }}

{{- define "podstrap.cacheClaim" -}}
{{- $claim := .Values.podstrap.cache.persistentVolumeClaim -}}
{{- if $claim.existingClaim -}}
{{- $claim.existingClaim -}}
{{- else if $claim.create -}}
{{- printf "%s-cache" (include "podstrap.fullname" .) -}}
{{- end -}}
{{- end }}

{{- define "podstrap.cacheVolume" -}}
{{- if include "podstrap.cacheClaim" . -}}
persistentVolumeClaim: {claimName: {{ include "podstrap.cacheClaim" . | quote }}}
{{- else if .Values.podstrap.cache.hostPath -}}
hostPath: {path: {{ .Values.podstrap.cache.hostPath | quote }}, type: DirectoryOrCreate}
{{- end -}}
{{- end }}
