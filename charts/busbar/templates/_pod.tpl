{{/* The flags of `busbar run`, without extraArgs. */}}
{{- define "busbar.args" -}}
{{- $v := .Values -}}
- --identity=$(POD_NAME)_$(POD_UID)
- --lease-namespace=$(POD_NAMESPACE)
- --lease-name={{ include "busbar.fullname" . }}
- --admin-address=0.0.0.0:8081
- {{ printf "--ledger=%s" (include "busbar.ledgerURL" .) | quote }}
{{- if eq $v.ledger.type "PostgreSQL" }}
- --ledger-password-file=/etc/busbar/ledger/password
{{- else if not $v.ledger.persistence.enabled }}
# Lost with the Pod, as asked for.
- --ephemeral-ledger
{{- end }}
- --log-format={{ $v.operator.logFormat }}
- {{ printf "--log-level=%s" $v.operator.logLevel | quote }}
- --shutdown-grace={{ int $v.operator.shutdownGraceSeconds }}s
{{- if not (include "busbar.clusterScope" .) }}
- --watch-namespaces={{ include "busbar.namespaces" . | fromJsonArray | join "," }}
{{- end }}
{{- if include "busbar.keysSecretName" . }}
- --key-secret=/etc/busbar/keys
{{- end }}
{{- if include "busbar.profilesConfigMapName" . }}
- --profiles-dir=/etc/busbar/profiles
{{- end }}
{{- with $v.operator.allowProviderAddresses }}
- --allow-provider-addresses={{ join "," . }}
{{- end }}
{{- with $v.operator.responseMemory }}
- --response-memory={{ . }}
{{- end }}
{{- with $v.operator.reconcileConcurrency }}
- --reconcile-concurrency={{ int . }}
{{- end }}
{{- with $v.operator.probeConcurrency }}
- --probe-concurrency={{ int . }}
{{- end }}
{{- with $v.operator.syncConcurrency }}
- --sync-concurrency={{ int . }}
{{- end }}
{{- with $v.operator.secretRefresh }}
- --secret-refresh={{ . }}
{{- end }}
{{- with $v.operator.probeRetention }}
- --probe-retention={{ . }}
{{- end }}
{{- with $v.operator.auditRetention }}
- --audit-retention={{ . }}
{{- end }}
{{- with $v.operator.eventRetention }}
- --event-retention={{ . }}
{{- end }}
{{- with $v.operator.decisionRetention }}
- --decision-retention={{ . }}
{{- end }}
{{- with $v.operator.auditMaxSize }}
- --audit-max-size={{ . }}
{{- end }}
{{- with $v.operator.otlpEndpoint }}
- {{ printf "--otlp-endpoint=%s" . | quote }}
{{- end }}
{{- with $v.metrics.compat }}
- --compat-metrics={{ join "," . }}
{{- end }}
{{- if $v.metrics.partitions }}
- --partition-metrics
{{- end }}
{{- if $v.metrics.requireToken }}
- --metrics-auth=kubernetes
{{- end }}
{{- with $v.jobs }}
{{- if .enabled }}
- --job-image={{ .image | default (include "busbar.image" $) }}
- {{ printf "--job-ledger=%s" (.ledgerURL | default $v.ledger.postgresql.url) | quote }}
- --job-service-account={{ .serviceAccountName }}
{{- with .ledgerSecretName }}
- --job-ledger-secret={{ . }}
{{- end }}
{{- with .keySecretName }}
- --job-key-secret={{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- with $v.amqp }}
{{- if .url }}
- {{ printf "--amqp=%s" .url | quote }}
{{- if .existingSecret }}
- --amqp-password-file=/etc/busbar/amqp/password
{{- end }}
{{- if .caSecret.name }}
- --amqp-ca-file=/etc/busbar/amqp-ca/ca.crt
{{- end }}
{{- with .domain }}
- --events-domain={{ . }}
{{- end }}
{{- with .messageTTL }}
- --amqp-message-ttl={{ . }}
{{- end }}
{{- with .maxLength }}
- --amqp-max-length={{ int . }}
{{- end }}
{{- with .queueType }}
- --amqp-queue-type={{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- if $v.gateway.enabled }}
- --gateway-address=:{{ int $v.gateway.port }}
- --gateway-tls-cert=/etc/busbar/tls/tls.crt
- --gateway-tls-key=/etc/busbar/tls/tls.key
{{- with $v.gateway.audiences }}
- {{ printf "--gateway-audiences=%s" (join "," .) | quote }}
{{- end }}
{{- with $v.gateway.callerRate }}
- --gateway-caller-rate={{ . }}
{{- end }}
{{- with $v.gateway.addressRate }}
- --gateway-address-rate={{ . }}
{{- end }}
{{- with $v.gateway.connectionCalls }}
- --gateway-connection-calls={{ int . }}
{{- end }}
{{- if ne $v.gateway.fallbackAuthorization "Caller" }}
- --fallback-authorization={{ $v.gateway.fallbackAuthorization }}
{{- end }}
{{- with $v.gateway.finastraAlias }}
- --finastra-alias={{ . }}
{{- end }}
{{- with $v.gateway.defaultNamespace }}
- --gateway-default-namespace={{ . }}
{{- end }}
{{- with $v.gateway.consumerRate }}
- --gateway-consumer-rate={{ . }}
{{- end }}
{{- with $v.gateway.consumerBurst }}
- --gateway-consumer-burst={{ int . }}
{{- end }}
{{- else }}
- --gateway-address=off
{{- end }}
{{- end -}}

{{- define "busbar.imagePullSecrets" -}}
{{- $global := .Values.global | default dict -}}
{{- range concat ($global.imagePullSecrets | default list) .Values.imagePullSecrets }}
- name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
{{- end }}
{{- end -}}

{{- define "busbar.topologySpreadConstraints" -}}
{{- if .Values.topologySpreadConstraints -}}
{{- toYaml .Values.topologySpreadConstraints -}}
{{- else -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "busbar.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The Pod template of the StatefulSet and of the Deployment. */}}
{{- define "busbar.podTemplate" -}}
{{- $v := .Values -}}
metadata:
  labels:
    {{- with $v.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "busbar.selectorLabels" . | nindent 4 }}
  annotations:
    kubectl.kubernetes.io/default-container: busbar
    {{- if $v.profiles }}
    # Profiles are read at the start only.
    busbar.dev/profiles-checksum: {{ include "busbar.profiles" . | sha256sum }}
    {{- end }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "busbar.serviceAccountName" . }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  # The operator drains for its grace period, then closes the ledger within 9 s.
  terminationGracePeriodSeconds: {{ add (int $v.operator.shutdownGraceSeconds) 12 }}
  {{- with include "busbar.imagePullSecrets" . }}
  imagePullSecrets:
    {{- . | trim | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml $v.podSecurityContext | nindent 4 }}
  containers:
    - name: busbar
      image: {{ include "busbar.image" . | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args:
        - run
        {{- include "busbar.args" . | nindent 8 }}
        {{- with $v.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      # The flags refer to these: the name of a StatefulSet's Pod comes back, its UID does not.
      env:
        # The ledger of the commands that are run in the Pod: kubectl exec POD -- busbar ledger.
        - name: BUSBAR_LEDGER
          value: {{ include "busbar.ledgerURL" . | quote }}
        {{- if eq $v.ledger.type "PostgreSQL" }}
        - name: BUSBAR_LEDGER_PASSWORD_FILE
          value: /etc/busbar/ledger/password
        {{- end }}
        - name: POD_NAME
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: metadata.name
        - name: POD_UID
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: metadata.uid
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              apiVersion: v1
              fieldPath: metadata.namespace
        {{- with $v.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      # SQLite's temporary files go there too; everything else is read-only.
      workingDir: /var/lib/busbar
      ports:
        - name: admin
          containerPort: 8081
          protocol: TCP
        {{- if $v.gateway.enabled }}
        - name: gateway
          containerPort: {{ int $v.gateway.port }}
          protocol: TCP
        {{- end }}
      startupProbe:
        httpGet:
          path: /livez
          port: admin
        {{- toYaml $v.startupProbe | nindent 8 }}
      livenessProbe:
        httpGet:
          path: /livez
          port: admin
        {{- toYaml $v.livenessProbe | nindent 8 }}
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
        {{- toYaml $v.readinessProbe | nindent 8 }}
      securityContext:
        {{- toYaml $v.containerSecurityContext | nindent 8 }}
      resources:
        {{- toYaml $v.resources | nindent 8 }}
      volumeMounts:
        - name: {{ ternary "ledger" "work" (eq $v.ledger.type "SQLite") }}
          mountPath: /var/lib/busbar
        {{- if eq $v.ledger.type "PostgreSQL" }}
        - name: ledger-password
          mountPath: /etc/busbar/ledger
          readOnly: true
        {{- if $v.ledger.postgresql.caSecret.name }}
        - name: ledger-ca
          mountPath: /etc/busbar/ledger-ca
          readOnly: true
        {{- end }}
        {{- end }}
        {{- if and $v.amqp.url $v.amqp.existingSecret }}
        - name: amqp-password
          mountPath: /etc/busbar/amqp
          readOnly: true
        {{- end }}
        {{- if and $v.amqp.url $v.amqp.caSecret.name }}
        - name: amqp-ca
          mountPath: /etc/busbar/amqp-ca
          readOnly: true
        {{- end }}
        {{- if include "busbar.keysSecretName" . }}
        - name: keys
          mountPath: /etc/busbar/keys
          readOnly: true
        {{- end }}
        {{- if include "busbar.profilesConfigMapName" . }}
        - name: profiles
          mountPath: /etc/busbar/profiles
          readOnly: true
        {{- end }}
        {{- if $v.gateway.enabled }}
        - name: tls
          mountPath: /etc/busbar/tls
          readOnly: true
        {{- end }}
        {{- with $v.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  {{- with include "busbar.volumes" . | trim }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- include "busbar.topologySpreadConstraints" . | trim | nindent 4 }}
  {{- with $v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "busbar.volumes" -}}
{{- $v := .Values -}}
{{- if eq $v.ledger.type "PostgreSQL" }}
# Nothing there outlives the Pod: the ledger is on the server.
- name: work
  emptyDir: {}
- name: ledger-password
  secret:
    secretName: {{ $v.ledger.postgresql.existingSecret }}
    items:
      - key: {{ $v.ledger.postgresql.key }}
        path: password
    # Readable by the group of fsGroup only.
    defaultMode: 288
{{- with $v.ledger.postgresql.caSecret }}
{{- if .name }}
- name: ledger-ca
  secret:
    secretName: {{ .name }}
    items:
      - key: {{ .key }}
        path: ca.crt
    defaultMode: 288
{{- end }}
{{- end }}
{{- else if not $v.ledger.persistence.enabled }}
- name: ledger
  emptyDir: {}
{{- else if $v.ledger.persistence.existingClaim }}
- name: ledger
  persistentVolumeClaim:
    claimName: {{ $v.ledger.persistence.existingClaim }}
{{- end }}
{{- with $v.amqp }}
{{- if and .url .existingSecret }}
- name: amqp-password
  secret:
    secretName: {{ .existingSecret }}
    items:
      - key: {{ .key }}
        path: password
    # Readable by the group of fsGroup only.
    defaultMode: 288
{{- end }}
{{- if and .url .caSecret.name }}
- name: amqp-ca
  secret:
    secretName: {{ .caSecret.name }}
    items:
      - key: {{ .caSecret.key }}
        path: ca.crt
    defaultMode: 288
{{- end }}
{{- end }}
{{- with include "busbar.keysSecretName" . }}
- name: keys
  secret:
    secretName: {{ . }}
    # Readable by the group of fsGroup only.
    defaultMode: 288
{{- end }}
{{- with include "busbar.profilesConfigMapName" . }}
- name: profiles
  configMap:
    name: {{ . }}
    defaultMode: 420
{{- end }}
{{- if $v.gateway.enabled }}
- name: tls
  secret:
    secretName: {{ include "busbar.tlsSecretName" . }}
    defaultMode: 288
{{- end }}
{{- with $v.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The data of the ConfigMap with the profiles. */}}
{{- define "busbar.profiles" -}}
{{- range $id, $profile := .Values.profiles }}
{{- if kindIs "string" $profile }}
{{ $id }}.yaml: {{ toJson $profile }}
{{- else }}
{{- if ne ($profile.id | default $id) $id }}
{{- fail (printf "profiles.%s: its id is %q; name both alike" $id $profile.id) }}
{{- end }}
{{ $id }}.yaml: {{ toYaml (merge (dict "id" $id) $profile) | toJson }}
{{- end }}
{{- end }}
{{- end -}}
