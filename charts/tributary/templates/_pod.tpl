{{/* The pod of a service. Called with {root, s}. */}}
{{- define "tributary.pod" -}}
{{- $v := .root.Values }}
{{- $s := .s }}
{{- $cfg := $s.cfg }}
{{- $mutual := eq $v.registry.tls "mutual" }}
metadata:
  labels:
    {{- include "tributary.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ $s.name }}
    {{- with $cfg.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $cfg.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ $s.fullname }}
  automountServiceAccountToken: false
  # The variables that Kubernetes makes of Services would begin with TRIBUTARY_ too.
  enableServiceLinks: false
  # At TERM the service says so at /readyz, serves on for the delay, drains its spool, lets calls end, and then has 5 s to
  # flush: what a preStop hook would be for.
  terminationGracePeriodSeconds: {{ add (int $s.stop) 10 }}
  {{- with $v.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $cfg.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: {{ $s.name }}
      image: {{ printf "%s/%s:%s" $v.image.repository $s.name (default .root.Chart.AppVersion $v.image.tag) | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      env: {{- include "tributary.env" . | nindent 8 }}
      ports:
        - {name: http, containerPort: 8080, protocol: TCP}
        {{- if eq $s.name "privacy" }}
        - {name: registry, containerPort: 7070, protocol: TCP}
        {{- end }}
        {{- range $cfg.ports }}
        - {name: {{ .name }}, containerPort: {{ int .containerPort }}, protocol: TCP}
        {{- end }}
      # HTTP is served last: the databases' migrations come before it.
      startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 300}
      livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
      readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2}
      resources: {{- toYaml $cfg.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        privileged: false
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: data, mountPath: /var/lib/tributary/data}
        {{- if eq $s.name "connect" }}
        - {name: owner-key, mountPath: /var/lib/tributary/data/api-key, subPath: api-key, readOnly: true}
        {{- end }}
        {{- if or $s.channel (eq $s.name "conversation") }}
        - {name: bucket, mountPath: /var/lib/tributary/bucket}
        {{- end }}
        {{- if eq $s.name "privacy" }}
        - {name: keystore, mountPath: /var/lib/tributary/keystore}
        {{- end }}
        {{- if $v.kafka.tls.secret }}
        - {name: kafka-tls, mountPath: /etc/tributary/kafka, readOnly: true}
        {{- end }}
        {{- if ne $v.registry.tls "off" }}
        - {name: registry-tls, mountPath: /etc/tributary/registry, readOnly: true}
        {{- end }}
        {{- range $cfg.secretFiles }}
        - {name: {{ .secretName }}, mountPath: {{ .mountPath }}, readOnly: true}
        {{- end }}
        {{- if $mutual }}
        - {name: registry-client, mountPath: /etc/tributary/registry-client, readOnly: true}
        {{- end }}
  volumes:
    {{- if not $s.stateful }}
    - {name: data, emptyDir: {sizeLimit: 64Mi}}
    {{- end }}
    {{- if eq $s.name "connect" }}
    - name: owner-key
      secret: {secretName: {{ $s.secret }}, defaultMode: 0440, items: [{key: api-key, path: api-key}]}
    {{- end }}
    {{- if or $s.channel (eq $s.name "conversation") }}
    - name: bucket
      persistentVolumeClaim: {claimName: {{ default (printf "%s-bucket" (include "tributary.fullname" .root)) $v.bucket.existingClaim }}}
    {{- end }}
    {{- if eq $s.name "privacy" }}
    - name: keystore
      persistentVolumeClaim: {claimName: {{ default (printf "%s-keystore" (include "tributary.fullname" .root)) $v.keystore.existingClaim }}}
    {{- end }}
    {{- if $v.kafka.tls.secret }}
    - name: kafka-tls
      secret:
        secretName: {{ $v.kafka.tls.secret }}
        defaultMode: 0440
        items:
          - {key: ca.crt, path: ca.crt}
          {{- if $v.kafka.tls.clientCertificate }}
          - {key: tls.crt, path: tls.crt}
          - {key: tls.key, path: tls.key}
          {{- end }}
    {{- end }}
    {{- if ne $v.registry.tls "off" }}
    - name: registry-tls
      secret:
        secretName: {{ include "tributary.registrySecret" .root }}
        defaultMode: 0440
        items:
          - {key: ca.crt, path: ca.crt}
          {{- if eq $s.name "privacy" }}
          - {key: tls.crt, path: tls.crt}
          - {key: tls.key, path: tls.key}
          {{- end }}
    {{- end }}
    {{- range $cfg.secretFiles }}
    - name: {{ .secretName }}
      secret:
        secretName: {{ .secretName }}
        defaultMode: 0440
        items:
          {{- range .keys }}
          - {key: {{ . }}, path: {{ . }}}
          {{- end }}
    {{- end }}
    {{- if $mutual }}
    - name: registry-client
      secret: {secretName: {{ $s.fullname }}-registry-tls, defaultMode: 0440, items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]}
    {{- end }}
  {{- with $cfg.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $cfg.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  affinity:
  {{- if $cfg.affinity }}
    {{- toYaml $cfg.affinity | nindent 4 }}
  {{- else }}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "tributary.selector" .root | nindent 16 }}
                app.kubernetes.io/component: {{ $s.name }}
  {{- end }}
{{- end }}
