{{/* The settings of a service, as its environment. Called with {root, s}. */}}
{{- define "tributary.env" -}}
{{- $v := .root.Values }}
{{- $s := .s }}
{{- $fullname := include "tributary.fullname" .root }}
{{- $mutual := eq $v.registry.tls "mutual" }}
{{- $env := dict
  "TRIBUTARY_LISTEN" ":8080"
  "TRIBUTARY_DATA" "/var/lib/tributary/data"
  "TRIBUTARY_STOP_TIMEOUT" (printf "%ds" (int $s.stop))
  "TRIBUTARY_STOP_DELAY" (printf "%ds" (int $s.cfg.stop.delaySeconds))
  "TRIBUTARY_KAFKA_BROKERS" (required "kafka.brokers: name at least one (host:port)" (join "," $v.kafka.brokers))
  "TRIBUTARY_KAFKA_PREFIX" $v.kafka.prefix
  "TRIBUTARY_KAFKA_PARTITIONS" (int $v.kafka.partitions | toString)
  "TRIBUTARY_REGISTRY_ADDRESS" (printf "%s-privacy:7070" $fullname)
  "TRIBUTARY_LOG_LEVEL" $v.logLevel
}}
{{- with include "tributary.publicURL" .root }}{{ $_ := set $env "TRIBUTARY_PUBLIC_URL" . }}{{ end }}
{{- with $v.trustedProxies }}{{ $_ := set $env "TRIBUTARY_TRUSTED_PROXIES" (join "," .) }}{{ end }}
{{- with $v.otlpEndpoint }}{{ $_ := set $env "TRIBUTARY_OTLP_ENDPOINT" . }}{{ end }}
{{- if $v.kafka.tls.enabled }}
{{- $_ := set $env "TRIBUTARY_KAFKA_TLS" "true" }}
{{- with $v.kafka.tls.serverName }}{{ $_ := set $env "TRIBUTARY_KAFKA_TLS_SERVER_NAME" . }}{{ end }}
{{- if $v.kafka.tls.secret }}
{{- $_ := set $env "TRIBUTARY_KAFKA_TLS_CA" "/etc/tributary/kafka/ca.crt" }}
{{- if $v.kafka.tls.clientCertificate }}
{{- $_ := set $env "TRIBUTARY_KAFKA_TLS_CERT" "/etc/tributary/kafka/tls.crt" }}
{{- $_ := set $env "TRIBUTARY_KAFKA_TLS_KEY" "/etc/tributary/kafka/tls.key" }}
{{- end }}
{{- end }}
{{- end }}
{{- if $v.kafka.sasl.mechanism }}
{{- $_ := set $env "TRIBUTARY_KAFKA_SASL_MECHANISM" $v.kafka.sasl.mechanism }}
{{- $_ := set $env "TRIBUTARY_KAFKA_SASL_USERNAME" $v.kafka.sasl.username }}
{{- end }}
{{- if ne $v.registry.tls "off" }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_TLS" "true" }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_TLS_CA" "/etc/tributary/registry/ca.crt" }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_TLS_SERVER_NAME" (printf "%s-privacy" $fullname) }}
{{- if $mutual }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_TLS_CERT" "/etc/tributary/registry-client/tls.crt" }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_TLS_KEY" "/etc/tributary/registry-client/tls.key" }}
{{- end }}
{{- end }}
{{- if eq $s.name "privacy" }}
{{- /* By loopback: a replica is asked for by the Service only once it is ready, and asks itself before. */}}
{{- $_ := set $env "TRIBUTARY_REGISTRY_ADDRESS" "127.0.0.1:7070" }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_LISTEN" ":7070" }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_KEYSTORE" "/var/lib/tributary/keystore" }}
{{- if ne $v.registry.tls "off" }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_SERVER_CERT" "/etc/tributary/registry/tls.crt" }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_SERVER_KEY" "/etc/tributary/registry/tls.key" }}
{{- end }}
{{- if $mutual }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_CLIENT_CA" "/etc/tributary/registry/ca.crt" }}
{{- $names := list }}
{{- range (include "tributary.services" .root | fromJson).all }}{{ $names = append $names .name }}{{ end }}
{{- $_ := set $env "TRIBUTARY_REGISTRY_SERVICES" (join "," $names) }}
{{- end }}
{{- end }}
{{- if or $s.channel (eq $s.name "conversation") }}
{{- $_ := set $env "TRIBUTARY_BUCKET_URL" "file:///var/lib/tributary/bucket" }}
{{- end }}
{{- $secrets := list "TRIBUTARY_SECRET" }}
{{- if not $mutual }}{{ $secrets = append $secrets "TRIBUTARY_REGISTRY_TOKEN" }}{{ end }}
{{- if $v.kafka.sasl.mechanism }}{{ $secrets = append $secrets "TRIBUTARY_KAFKA_SASL_PASSWORD" }}{{ end }}
{{- if or $s.channel (eq $s.name "connect") }}{{ $secrets = append $secrets "TRIBUTARY_KEEPER_URL" }}{{ end }}
{{- if $s.database }}{{ $secrets = append $secrets "TRIBUTARY_DATABASE_URL" }}{{ end }}
{{- if eq $s.name "privacy" }}
{{- $secrets = append $secrets "TRIBUTARY_REGISTRY_KEEPER_URL" }}
{{- if not $mutual }}{{ $secrets = append $secrets "TRIBUTARY_REGISTRY_TOKENS" }}{{ end }}
{{- end }}
{{- $secrets = concat $secrets $s.cfg.secretSettings | uniq }}
{{- $_ := include "tributary.override" (dict "onto" $env "with" $v.settings) }}
{{- $_ := include "tributary.override" (dict "onto" $env "with" $s.cfg.settings) }}
{{- range $name := keys $env | sortAlpha }}
{{- if has $name $secrets }}{{ fail (printf "%s of %s is a secret: it belongs into the Secret %s" $name $s.name $s.secret) }}{{ end }}
- name: {{ $name }}
  value: {{ get $env $name | quote }}
{{- end }}
{{- range $secrets | sortAlpha }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ $s.secret }}, key: {{ . }}}
{{- end }}
{{- if not (hasKey $env "GOMEMLIMIT") }}
# Near its limit a process collects more often. Of what it counts it never touches 96 MiB, which is its distance.
- name: GOMEMLIMIT
  valueFrom:
    resourceFieldRef: {resource: limits.memory}
{{- end }}
{{- end }}
