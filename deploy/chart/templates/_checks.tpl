{{/* What a schema cannot say of several values together. All that is wrong is told at once. */}}
{{- define "interest.checks" -}}
{{- $wrong := list -}}
{{- $partitions := int .Values.partitions -}}
{{- $scaling := .Values.autoscaling -}}
{{- $auth := .Values.kafka.auth -}}
{{- $ssl := .Values.kafka.ssl -}}
{{- $grace := int .Values.terminationGracePeriodSeconds -}}

{{- if not .Values.kafka.brokers -}}
{{- $wrong = append $wrong "kafka.brokers: name at least one, HOST:PORT" -}}
{{- end -}}
{{- if not .Values.model -}}
{{- $wrong = append $wrong "model: name where the bundle comes from, one of image, volume, url" -}}
{{- end -}}
{{- with .Values.model.url -}}
{{- if and (not .follow) (not .version) -}}
{{- $wrong = append $wrong "model.url.version: name the bundle version, or set model.url.follow" -}}
{{- end -}}
{{- end -}}

{{/* More workers than partitions have nothing to do. */}}
{{- if and (eq $scaling.kind "none") (gt (int .Values.replicas) $partitions) -}}
{{- $wrong = append $wrong (printf "replicas: expected at most one for each of the %d partitions, got %d; carry the topics to more partitions first (interest topics grow)" $partitions (int .Values.replicas)) -}}
{{- end -}}
{{- if ne $scaling.kind "none" -}}
{{- $max := int (include "interest.scaling.max" .) -}}
{{- if gt (int $scaling.minReplicas) $max -}}
{{- $wrong = append $wrong (printf "autoscaling.minReplicas: expected at most %d (the lesser of maxReplicas and partitions), got %d" $max (int $scaling.minReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $scaling.kind "keda") (eq $auth.mechanism "OAUTHBEARER") (not $scaling.authenticationRef) -}}
{{- $wrong = append $wrong "autoscaling.authenticationRef: name a TriggerAuthentication of yours, KEDA cannot use the worker's token provider" -}}
{{- end -}}

{{- if le (float64 $grace) (float64 .Values.settings.drain_s) -}}
{{- $wrong = append $wrong (printf "terminationGracePeriodSeconds: expected more than settings.drain_s (%v), got %d; a drain would be killed" .Values.settings.drain_s $grace) -}}
{{- end -}}

{{- if include "interest.kafka.hasSasl" . -}}
{{- if not $auth.mechanism -}}
{{- $wrong = append $wrong (printf "kafka.auth.mechanism: expected one, as kafka.securityProtocol is %s" .Values.kafka.securityProtocol) -}}
{{- else if eq $auth.mechanism "OAUTHBEARER" -}}
{{- if or (not $auth.tokenProvider) $auth.existingSecret -}}
{{- $wrong = append $wrong "kafka.auth.tokenProvider: expected module:function and no existingSecret, as kafka.auth.mechanism is OAUTHBEARER" -}}
{{- end -}}
{{- else if not $auth.existingSecret -}}
{{- $wrong = append $wrong (printf "kafka.auth.existingSecret: expected the name of a Secret, as kafka.auth.mechanism is %s" $auth.mechanism) -}}
{{- end -}}
{{- else if or $auth.mechanism $auth.existingSecret $auth.username $auth.tokenProvider -}}
{{- $wrong = append $wrong (printf "kafka.securityProtocol: expected sasl_ssl or sasl_plaintext, as kafka.auth is given, got %s" .Values.kafka.securityProtocol) -}}
{{- end -}}
{{- if and (or $ssl.caSecret $ssl.clientSecret) (not (include "interest.kafka.hasSsl" .)) -}}
{{- $wrong = append $wrong (printf "kafka.securityProtocol: expected ssl or sasl_ssl, as kafka.ssl is given, got %s" .Values.kafka.securityProtocol) -}}
{{- end -}}

{{- if and .Values.metrics.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.metricsFrom) -}}
{{- $wrong = append $wrong "networkPolicy.metricsFrom: name who scrapes, as metrics.serviceMonitor is on" -}}
{{- end -}}

{{- if $wrong -}}
{{- fail (printf "wrong values: %s" (join " | " $wrong)) -}}
{{- end -}}
{{- end -}}
