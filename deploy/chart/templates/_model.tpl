{{/* What INTEREST_MODEL says: a folder, or where the worker itself looks for new bundles. */}}
{{- define "interest.model" -}}
{{- if and .Values.model.url .Values.model.url.follow -}}
{{- .Values.model.url.from -}}
{{- else if .Values.model.volume -}}
{{- printf "/model/%s" (default "" .Values.model.volume.path) | trimSuffix "/" -}}
{{- else -}}
/model/bundle
{{- end -}}
{{- end -}}

{{- define "interest.model.isCopied" -}}
{{- if or .Values.model.image (and .Values.model.url (not .Values.model.url.follow)) }}true{{ end -}}
{{- end -}}

{{/* The container that brings the bundle into an empty volume before the worker starts; into a folder of it, since a mount
     cannot be renamed to. */}}
{{- define "interest.model.init" -}}
{{- if include "interest.model.isCopied" . }}
- name: model
  {{- with .Values.model.image }}
  image: {{ .reference }}
  command: [cp, -R, {{ printf "%s/." .path | quote }}, /model/bundle]
  {{- end }}
  {{- with .Values.model.url }}
  image: {{ include "interest.image" $ }}
  args: [model, fetch, {{ .from | quote }}, /model/bundle, --bundle-version, {{ .version | quote }}]
  {{- with $.Values.env }}
  env:
    {{- range $name, $value := . }}
    - {name: {{ $name }}, value: {{ $value | quote }}}
    {{- end }}
  {{- end }}
  {{- with .secret }}
  envFrom:
    - secretRef: {name: {{ . }}}
  {{- end }}
  {{- end }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  securityContext:
    {{- include "interest.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    - {name: model, mountPath: /model}
    - {name: tmp, mountPath: /tmp}
{{- end }}
{{- end -}}

{{- define "interest.model.volume" -}}
{{- if include "interest.model.isCopied" . }}
- name: model
  emptyDir: {sizeLimit: {{ .Values.scratchSize }}}
{{- else if .Values.model.volume }}
- name: model
  {{- toYaml .Values.model.volume.source | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "interest.model.mount" -}}
{{- if or (include "interest.model.isCopied" .) .Values.model.volume }}
- {name: model, mountPath: /model, readOnly: true}
{{- end }}
{{- end -}}
