{{/* The controller's pod, for the Deployment, the Job and the CronJob. (dict "root" $ "drain" BOOL) */}}

{{- define "podstrap.pod" -}}
{{- $root := .root -}}
{{- $glue := $root.Values.agentk8sglue -}}
{{- $own := $root.Values.podstrap -}}
{{- $credentials := include "podstrap.credentials" $root | fromJson -}}
{{- $security := deepCopy ($glue.podSecurityContext | default dict) -}}
{{- if eq (toString $security.runAsUser) "0" }}{{ $security = omit $security "runAsNonRoot" }}{{ end -}}
metadata:
  labels:
    {{- include "podstrap.selector" $root | nindent 4 }}
    {{- with $glue.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/settings: {{ include "podstrap.settings" $root | sha256sum }}
    checksum/secrets: {{ include "podstrap.secretTexts" $root | sha256sum }}
    {{- with $glue.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "podstrap.serviceAccount" $root | quote }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  {{- if .drain }}
  restartPolicy: Never
  {{- end }}
  {{- with include "podstrap.pullSecret" $root }}
  imagePullSecrets: [{name: {{ . | quote }}}]
  {{- end }}
  securityContext:
    {{- toYaml $security | nindent 4 }}
  {{- with $own.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  containers:
    - name: controller
      image: {{ include "podstrap.image" $root | quote }}
      imagePullPolicy: {{ $own.image.pullPolicy }}
      command: [podstrap]
      args:
        - controller
        - --config
        - /etc/podstrap/settings.yaml
        - --health
        - {{ printf ":%d" (int $own.healthPort) | quote }}
        {{- if $own.metrics.enabled }}
        - --metrics
        - {{ printf ":%d" (int $own.metrics.port) | quote }}
        {{- end }}
        - --log-level
        - {{ $glue.debugMode | ternary "DEBUG" $own.logLevel }}
        - --log-format
        - {{ $own.logFormat }}
        {{- if .drain }}
        - --drain
        {{- with $own.drain.timeoutSeconds }}
        - --timeout
        - {{ . | quote }}
        {{- end }}
        {{- if $own.drain.failOnTaskFailure }}
        - --fail-on-task-failure
        {{- end }}
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - {name: HOME, value: /tmp}
        - {name: CLEARML_API_HOST, value: {{ $glue.apiServerUrlReference | quote }}}
        {{- with $glue.webServerUrlReference }}
        - {name: CLEARML_WEB_HOST, value: {{ . | quote }}}
        {{- end }}
        {{- with $glue.fileServerUrlReference }}
        - {name: CLEARML_FILES_HOST, value: {{ . | quote }}}
        {{- end }}
        - name: CLEARML_API_ACCESS_KEY
          valueFrom: {secretKeyRef: {name: {{ $credentials.name | quote }}, key: {{ $credentials.accessKey | quote }}}}
        - name: CLEARML_API_SECRET_KEY
          valueFrom: {secretKeyRef: {name: {{ $credentials.name | quote }}, key: {{ $credentials.secretKey | quote }}}}
        {{- with include "podstrap.sharedEnv" $root | trim }}
        {{- nindent 8 . }}
        {{- end }}
        {{- with $glue.extraEnvs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: health, containerPort: {{ int $own.healthPort }}}
        {{- if $own.metrics.enabled }}
        - {name: metrics, containerPort: {{ int $own.metrics.port }}}
        {{- end }}
      {{- if not .drain }}
      # The port opens once the Kubernetes API has answered, so the first answer may take as long as that.
      startupProbe:
        httpGet: {path: /healthz, port: health}
        periodSeconds: 5
        failureThreshold: 60
      readinessProbe:
        httpGet: {path: /readyz, port: health}
        periodSeconds: 5
      livenessProbe:
        httpGet: {path: /healthz, port: health}
        periodSeconds: 20
        timeoutSeconds: 5
      {{- end }}
      resources:
        {{- toYaml $glue.resources | nindent 8 }}
      securityContext:
        {{- toYaml $glue.containerSecurityContext | nindent 8 }}
      volumeMounts:
        - {name: settings, mountPath: /etc/podstrap, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- with include "podstrap.sharedMounts" $root | trim }}
        {{- nindent 8 . }}
        {{- end }}
        {{- with include "podstrap.fileMounts" (dict "files" $glue.fileMounts "volume" "file-mounts") | trim }}
        {{- nindent 8 . }}
        {{- end }}
        {{- with $glue.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  {{- with $glue.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $glue.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $glue.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if gt (int $glue.replicaCount) 1 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "podstrap.selector" $root | nindent 10 }}
  {{- end }}
  volumes:
    - name: settings
      configMap: {name: {{ include "podstrap.fullname" $root | quote }}}
    - name: tmp
      emptyDir: {}
    {{- with include "podstrap.sharedVolumes" $root | trim }}
    {{- nindent 4 . }}
    {{- end }}
    {{- if $glue.fileMounts }}
    - name: file-mounts
      secret: {secretName: {{ include "podstrap.fullname" $root }}-files}
    {{- end }}
    {{- with $glue.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* Everything that the controller reads from Secrets made here: a change of it is a new pod. */}}
{{- define "podstrap.secretTexts" -}}
{{- list .Values.clearml .Values.agentk8sglue.fileMounts .Values.agentk8sglue.credentialsSecret | toJson -}}
{{- end }}
