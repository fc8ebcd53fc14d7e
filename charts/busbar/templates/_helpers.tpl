{{/* Names */}}

{{- define "busbar.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{/* The name of the workload and of the lease. At most 52 characters, so that Pod names and identities fit their limits. */}}
{{- define "busbar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := include "busbar.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "busbar.serviceAccountName" -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}

{{- define "busbar.keysSecretName" -}}
{{- if .Values.keys.generate -}}
{{- printf "%s-keys" (include "busbar.fullname" .) -}}
{{- else -}}
{{- .Values.keys.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "busbar.tlsSecretName" -}}
{{- if eq .Values.gateway.tls.source "Secret" -}}
{{- .Values.gateway.tls.existingSecret -}}
{{- else -}}
{{- printf "%s-gateway-tls" (include "busbar.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "busbar.profilesConfigMapName" -}}
{{- if .Values.profiles -}}
{{- printf "%s-profiles" (include "busbar.fullname" .) -}}
{{- else -}}
{{- .Values.profilesConfigMap -}}
{{- end -}}
{{- end -}}

{{- define "busbar.image" -}}
{{- $global := .Values.global | default dict -}}
{{- $repository := .Values.image.repository -}}
{{- if $global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" $global.imageRegistry) $repository -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The ledger */}}

{{/* "true" if the ledger is a file on a claim. */}}
{{- define "busbar.claim" -}}
{{- if and (eq .Values.ledger.type "SQLite") .Values.ledger.persistence.enabled -}}true{{- end -}}
{{- end -}}

{{/* The URL of the ledger. It has no password: that is in a file. */}}
{{- define "busbar.ledgerURL" -}}
{{- if eq .Values.ledger.type "SQLite" -}}
sqlite:/var/lib/busbar/busbar.db
{{- else -}}
{{- $url := .Values.ledger.postgresql.url -}}
{{- if .Values.ledger.postgresql.caSecret.name -}}
{{- printf "%s%ssslrootcert=/etc/busbar/ledger-ca/ca.crt" $url (ternary "&" "?" (contains "?" $url)) -}}
{{- else -}}
{{- $url -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels */}}

{{- define "busbar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "busbar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "busbar.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "busbar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Scope */}}

{{- define "busbar.clusterScope" -}}
{{- if eq .Values.watch.scope "Cluster" -}}true{{- end -}}
{{- end -}}

{{/* The watched namespaces, sorted, as a JSON list; with scope Cluster an empty one. */}}
{{- define "busbar.namespaces" -}}
{{- if include "busbar.clusterScope" . -}}
[]
{{- else -}}
{{- .Values.watch.namespaces | default (list .Release.Namespace) | uniq | sortAlpha | toJson -}}
{{- end -}}
{{- end -}}

{{/* Whether the operator sends token and access reviews. */}}
{{- define "busbar.reviews" -}}
{{- if or .Values.gateway.enabled .Values.metrics.requireToken -}}true{{- end -}}
{{- end -}}

{{/* Reviews are cluster-scoped. Releases of single namespaces may be many, so their role is named after the namespace. */}}
{{- define "busbar.reviewsName" -}}
{{- if include "busbar.clusterScope" . -}}
busbar-operator-reviews
{{- else -}}
{{- printf "busbar-operator-reviews.%s.%s" .Release.Namespace (include "busbar.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "busbar.userRoles" -}}
{{- if and .Values.rbac.create (ternary (include "busbar.clusterScope" .) .Values.rbac.userRoles (kindIs "invalid" .Values.rbac.userRoles)) -}}true{{- end -}}
{{- end -}}

{{- define "busbar.admissionPolicies" -}}
{{- if ternary (include "busbar.clusterScope" .) .Values.admissionPolicies.enabled (kindIs "invalid" .Values.admissionPolicies.enabled) -}}true{{- end -}}
{{- end -}}

{{/*
The rules of a role of config/rbac/, of which files/rbac/ is a copy. Arguments: the root, the file, the role's name.
The lease in them is the release's own.
*/}}
{{- define "busbar.rules" -}}
{{- $root := index . 0 -}}
{{- $file := printf "files/rbac/%s" (index . 1) -}}
{{- $name := index . 2 -}}
{{- $rules := "" -}}
{{- range $text := splitList "\n---\n" ($root.Files.Get $file) -}}
{{- $object := fromYaml $text -}}
{{- /* A binding may have the same name. */ -}}
{{- if and (hasKey $object "rules") (eq (dig "metadata" "name" "" $object) $name) -}}
{{- $rules = toYaml (index $object "rules") -}}
{{- end -}}
{{- end -}}
{{- if not $rules -}}
{{- fail (printf "chart is incomplete: %s has no role %q" $file $name) -}}
{{- end -}}
{{- $rules | replace "resourceNames:\n  - busbar\n" (printf "resourceNames:\n  - %s\n" (include "busbar.fullname" $root)) -}}
{{- end -}}

{{/* The subjects of the operator's bindings. */}}
{{- define "busbar.subjects" -}}
- kind: ServiceAccount
  name: {{ include "busbar.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/*
Whether `lookup` reads a cluster: a list, even an empty one, has a kind; elsewhere `lookup` returns nothing.
ServiceAccounts, because the installing user may list them and they hold no secret.
*/}}
{{- define "busbar.live" -}}
{{- if lookup "v1" "ServiceAccount" .Release.Namespace "" -}}true{{- end -}}
{{- end -}}
