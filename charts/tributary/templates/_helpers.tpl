{{- define "tributary.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 36 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 36 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 36 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{/* Lays one dict onto another, in place. Unlike mergeOverwrite it lets false, 0 and "" overrule, too. */}}
{{- define "tributary.override" -}}
{{- $onto := .onto }}
{{- range $key, $value := .with }}
{{- if and (kindIs "map" $value) (kindIs "map" (get $onto $key)) }}
{{- $_ := include "tributary.override" (dict "onto" (get $onto $key) "with" $value) }}
{{- else }}
{{- $_ := set $onto $key $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* Selects what belongs to the release; a service adds its component. */}}
{{- define "tributary.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tributary.labels" -}}
{{ include "tributary.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tributary
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/*
All services of the mesh, each with what the templates ask of it: {all: [{name, channel, longestCall, stateful, database,
provider, cfg, fullname, secret, stop}]}. The channels are those of files/channels.yaml.
*/}}
{{- define "tributary.services" -}}
{{- $root := . }}
{{- $all := list }}
{{- range $name := list "privacy" "connect" "conversation" }}
{{- $cfg := deepCopy $root.Values.defaults }}
{{- $_ := include "tributary.override" (dict "onto" $cfg "with" (default dict (get $root.Values.services $name) | deepCopy)) }}
{{- $all = append $all (dict "name" $name "channel" false "longestCall" 0 "stateful" (eq $name "privacy") "database" true "provider" (eq $name "connect") "cfg" $cfg) }}
{{- end }}
{{- $known := list }}
{{- range $c := (.Files.Get "files/channels.yaml" | fromYaml).channels }}
{{- $known = append $known $c.name }}
{{- $cfg := deepCopy $root.Values.defaults }}
{{- $_ := include "tributary.override" (dict "onto" $cfg "with" (default dict (get $root.Values.channels $c.name) | deepCopy)) }}
{{- if dig "enabled" true $cfg }}
{{- $all = append $all (dict "name" $c.name "channel" true "longestCall" $c.longestCall "stateful" true "database" false "provider" true "cfg" $cfg) }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.channels }}
{{- if not (has $name $known) }}{{ fail (printf "channels.%s: there is no such channel (%s)" $name (join ", " $known)) }}{{ end }}
{{- end }}
{{- $fullname := include "tributary.fullname" . }}
{{- range $s := $all }}
{{- $_ := set $s "fullname" (printf "%s-%s" $fullname $s.name) }}
{{- $_ := set $s "secret" (default $s.fullname $s.cfg.secretName) }}
{{- $calls := add (div (mul $s.longestCall 5) 4) $s.cfg.stop.delaySeconds 10 }}
{{- $_ := set $s "stop" (ternary (max $s.cfg.stop.timeoutSeconds $calls) $s.cfg.stop.timeoutSeconds $s.channel) }}
{{- end }}
{{- toJson (dict "all" $all) }}
{{- end }}

{{- define "tributary.publicURL" -}}
{{- if .Values.publicURL }}{{ .Values.publicURL }}{{ else if .Values.ingress.enabled }}https://{{ .Values.ingress.host }}{{ end }}
{{- end }}

{{- define "tributary.registrySecret" -}}
{{- default (printf "%s-registry-tls" (include "tributary.fullname" .)) .Values.registry.secret }}
{{- end }}
