{{/* Names leave room for "-<revision>", which a StatefulSet puts behind its own in a label of 63 characters. */}}
{{- define "interest.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "interest.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "interest.labels" -}}
{{ include "interest.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "interest.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.gpu.enabled }}{{ $tag = printf "%s-gpu" $tag }}{{ end -}}
{{- .Values.image.repository }}:{{ $tag }}{{ with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* A value as the environment has it: lists with commas, and large numbers, which Helm reads as floats, in digits. */}}
{{- define "interest.text" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* The environment that is no secret, as a map in YAML: what the chart decides, then the settings. */}}
{{- define "interest.environment" -}}
{{- $env := dict "INTEREST_BROKER" (join "," .Values.kafka.brokers) "INTEREST_DATA_DIR" "/data" -}}
{{- $_ := set $env "INTEREST_HEALTH_ADDRESS" (printf "%s:%d" .Values.health.host (int .Values.health.port)) -}}
{{- $_ := set $env "INTEREST_MODEL" (include "interest.model" .) -}}
{{- $_ := set $env "INTEREST_PROVIDER" (ternary "cuda" "cpu" .Values.gpu.enabled) -}}
{{/* numpy's threads, one for each core of the host unless told. ONNX Runtime takes no notice of these. */}}
{{- $_ := set $env "OMP_NUM_THREADS" "1" -}}
{{- $_ := set $env "OPENBLAS_NUM_THREADS" "1" -}}
{{- if .Values.gpu.enabled }}{{ $_ := set $env "CUDA_CACHE_PATH" "/tmp/cuda" }}{{ end -}}
{{- $env = merge $env (include "interest.kafka.environment" . | fromYaml) -}}
{{- range $name, $value := .Values.settings -}}
{{- $_ := set $env (printf "INTEREST_%s" (upper $name)) (include "interest.text" $value) -}}
{{- end -}}
{{- toYaml (merge (deepCopy .Values.env) $env) -}}
{{- end -}}

{{- define "interest.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "interest.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What every pod has: nothing of the API, no variables named after Services (the worker refuses an INTEREST_… that it
     does not know), no rights. */}}
{{- define "interest.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "interest.podSecurity" . | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or .Values.gpu.enabled .Values.tolerations }}
tolerations:
  {{- if .Values.gpu.enabled }}
  - {key: {{ .Values.gpu.resource }}, operator: Exists, effect: NoSchedule}
  {{- end }}
  {{- with .Values.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "interest.scaling.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 60
  policies:
    - {type: Percent, value: 100, periodSeconds: 60}
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownStabilizationSeconds }}
  policies:
    - {type: Pods, value: 1, periodSeconds: {{ .Values.autoscaling.scaleDownPodSeconds }}}
{{- end -}}

{{/* More workers than partitions have nothing to do. */}}
{{- define "interest.scaling.max" -}}
{{- min (default .Values.partitions .Values.autoscaling.maxReplicas) .Values.partitions -}}
{{- end -}}
