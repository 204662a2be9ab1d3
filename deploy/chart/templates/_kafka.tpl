{{- define "interest.kafka.hasSasl" -}}
{{- if hasPrefix "sasl" .Values.kafka.securityProtocol }}true{{ end -}}
{{- end -}}

{{- define "interest.kafka.hasSsl" -}}
{{- if hasSuffix "ssl" .Values.kafka.securityProtocol }}true{{ end -}}
{{- end -}}

{{/* How brokers are reached, without secrets: a map in YAML. Files are those of interest.kafka.volume. */}}
{{- define "interest.kafka.environment" -}}
{{- $env := dict -}}
{{- $kafka := .Values.kafka -}}
{{- if ne $kafka.securityProtocol "plaintext" -}}
{{- $_ := set $env "INTEREST_SECURITY_PROTOCOL" $kafka.securityProtocol -}}
{{- end -}}
{{- if include "interest.kafka.hasSasl" . -}}
{{- $_ := set $env "INTEREST_SASL_MECHANISM" $kafka.auth.mechanism -}}
{{- with $kafka.auth.username }}{{ $_ := set $env "INTEREST_SASL_USERNAME" . }}{{ end -}}
{{- with $kafka.auth.tokenProvider }}{{ $_ := set $env "INTEREST_SASL_TOKEN_PROVIDER" . }}{{ end -}}
{{- if $kafka.auth.existingSecret -}}
{{- $_ := set $env "INTEREST_SASL_PASSWORD_FILE" "/etc/interest/kafka/password" -}}
{{- end -}}
{{- end -}}
{{- if include "interest.kafka.hasSsl" . -}}
{{- with $kafka.ssl.caSecret }}{{ $_ := set $env "INTEREST_SSL_CA_FILE" "/etc/interest/kafka/ca.crt" }}{{ end -}}
{{- if $kafka.ssl.clientSecret -}}
{{- $_ := set $env "INTEREST_SSL_CERT_FILE" "/etc/interest/kafka/tls.crt" -}}
{{- $_ := set $env "INTEREST_SSL_KEY_FILE" "/etc/interest/kafka/tls.key" -}}
{{- if $kafka.ssl.keyPasswordKey -}}
{{- $_ := set $env "INTEREST_SSL_KEY_PASSWORD_FILE" "/etc/interest/kafka/key-password" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $env -}}
{{- end -}}

{{/* The user's name where it comes from the secret: an item of a list of variables. */}}
{{- define "interest.kafka.username" -}}
{{- $auth := .Values.kafka.auth -}}
{{- if and (include "interest.kafka.hasSasl" .) $auth.existingSecret (not $auth.username) }}
- name: INTEREST_SASL_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ $auth.existingSecret }}
      key: {{ $auth.usernameKey }}
{{- end }}
{{- end -}}

{{/* Sources of one volume with everything secret, under names of our own; empty where nothing is. */}}
{{- define "interest.kafka.sources" -}}
{{- $kafka := .Values.kafka -}}
{{- if and (include "interest.kafka.hasSasl" .) $kafka.auth.existingSecret }}
- secret:
    name: {{ $kafka.auth.existingSecret }}
    items:
      - {key: {{ $kafka.auth.passwordKey | quote }}, path: password}
{{- end }}
{{- if include "interest.kafka.hasSsl" . }}
{{- with $kafka.ssl.caSecret }}
- secret:
    name: {{ . }}
    items:
      - {key: {{ $kafka.ssl.caKey | quote }}, path: ca.crt}
{{- end }}
{{- with $kafka.ssl.clientSecret }}
- secret:
    name: {{ . }}
    items:
      - {key: {{ $kafka.ssl.certKey | quote }}, path: tls.crt}
      - {key: {{ $kafka.ssl.keyKey | quote }}, path: tls.key}
      {{- with $kafka.ssl.keyPasswordKey }}
      - {key: {{ . | quote }}, path: key-password}
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "interest.kafka.volume" -}}
{{- with include "interest.kafka.sources" . }}
- name: kafka
  projected:
    defaultMode: 0440
    sources:
      {{- . | trim | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "interest.kafka.mount" -}}
{{- if include "interest.kafka.sources" . }}
- {name: kafka, mountPath: /etc/interest/kafka, readOnly: true}
{{- end }}
{{- end -}}
