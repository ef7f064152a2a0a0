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
{{- if $rest.rules -}}
{{- $rules := list -}}
{{- range $index, $given := $rest.rules -}}
{{- $rule := deepCopy $given -}}
{{- include "podstrap.nameFiles" (dict "root" $ "owner" $rule "of" (printf "rule %d" $index)) -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- $_ := set $rest "rules" $rules -}}
{{- end -}}
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
{{- if kindIs "map" $queues }}{{ $settings = deepCopy (get $queues . | default dict) }}{{ end -}}
{{- include "podstrap.nameFiles" (dict "root" $ "owner" $settings "of" (printf "queue %s" .)) -}}
{{- if $settings }}{{ toYaml $settings | nindent 2 }}{{ else }} {}{{ end -}}
{{- end }}
{{- end }}

{{- define "podstrap.basePodTemplate" -}}
{{- $base := deepCopy (.Values.agentk8sglue.basePodTemplate | default dict) -}}
{{- if $base.fileMounts -}}
{{- $_ := set $base "fileMounts" (include "podstrap.namedFiles" (dict "root" . "files" $base.fileMounts "of" "") | fromJsonArray) -}}
{{- end -}}
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

{{/* The Secret of the texts of a template's files: (dict "root" $ "of" "queue NAME" | "rule N" | ""). */}}
{{- define "podstrap.filesSecret" -}}
{{- printf "%s-task-files" (include "podstrap.fullname" .root) }}{{ with .of }}-{{ sha256sum . | trunc 8 }}{{ end -}}
{{- end }}

{{/* `fileMounts` without their texts, which lie in a Secret: (dict "root" $ "files" LIST "of" WHOSE); JSON. */}}
{{- define "podstrap.namedFiles" -}}
{{- $secret := include "podstrap.filesSecret" . -}}
{{- $named := list -}}
{{- range .files -}}
{{- if hasKey . "fileContent" -}}
{{- $named = append $named (dict "name" .name "folderPath" .folderPath "secretName" $secret) -}}
{{- else -}}
{{- $named = append $named . -}}
{{- end -}}
{{- end -}}
{{- toJson $named -}}
{{- end }}

{{/* The same for the templateOverrides of a queue or a rule, in place: (dict "root" $ "owner" DICT "of" WHOSE). */}}
{{- define "podstrap.nameFiles" -}}
{{- $over := .owner.templateOverrides | default dict -}}
{{- if $over.fileMounts -}}
{{- $files := include "podstrap.namedFiles" (dict "root" .root "files" $over.fileMounts "of" .of) | fromJsonArray -}}
{{- $_ := set $over "fileMounts" $files -}}
{{- end -}}
{{- end }}

{{/* Every template's texts by their Secret; JSON. */}}
{{- define "podstrap.fileTexts" -}}
{{- $glue := .Values.agentk8sglue -}}
{{- $found := dict -}}
{{- $templates := dict "" ($glue.basePodTemplate | default dict) -}}
{{- if kindIs "map" $glue.queues -}}
{{- range $name, $queue := $glue.queues -}}
{{- $_ := set $templates (printf "queue %s" $name) ((default dict $queue).templateOverrides | default dict) -}}
{{- end -}}
{{- end -}}
{{- range $index, $rule := $glue.rules -}}
{{- $_ := set $templates (printf "rule %d" $index) ($rule.templateOverrides | default dict) -}}
{{- end -}}
{{- range $of, $template := $templates -}}
{{- $texts := dict -}}
{{- range $template.fileMounts -}}
{{- if hasKey . "fileContent" }}{{ $_ := set $texts .name .fileContent }}{{ end -}}
{{- end -}}
{{- if $texts }}{{ $_ := set $found (include "podstrap.filesSecret" (dict "root" $ "of" $of)) $texts }}{{ end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}
