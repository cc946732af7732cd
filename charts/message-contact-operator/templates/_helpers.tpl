{{/* The name of the chart, or what takes its place. */}}
{{- define "mco.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of most objects. Short enough for a suffix. */}}
{{- define "mco.fullname" -}}
{{- $name := include "mco.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What belongs to no namespace must not meet a release of the same name in another one. */}}
{{- define "mco.clusterName" -}}
{{- if eq (include "mco.fullname" .) .Release.Namespace }}
{{- include "mco.fullname" . }}
{{- else }}
{{- printf "%s-%s" .Release.Namespace (include "mco.fullname" .) | trunc 100 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "mco.selector" -}}
app.kubernetes.io/name: {{ include "mco.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of an object; the component tells the operator from what stands around it. */}}
{{- define "mco.labels" -}}
{{ include "mco.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "mco.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "mco.fullname" .) }}
{{- end }}

{{/* The digest goes before the tag. */}}
{{- define "mco.image" -}}
{{- $image := .Values.image }}
{{- $name := ternary $image.repository (printf "%s/%s" $image.registry $image.repository) (empty $image.registry) }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name ($image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The security context of each pod of the chart. */}}
{{- define "mco.podSecurityContext" -}}
runAsNonRoot: true
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- with index $.Values.podSecurity $key }}
{{ $key }}: {{ int64 . }}
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The security context of each container of the chart. */}}
{{- define "mco.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- range $key := list "runAsUser" "runAsGroup" }}
{{- with index $.Values.podSecurity $key }}
{{ $key }}: {{ int64 . }}
{{- end }}
{{- end }}
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The token for the apiserver: mounted by hand, so that it is there for this container only. */}}
{{- define "mco.tokenMount" -}}
- name: apiserver-token
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}

{{- define "mco.tokenVolume" -}}
- name: apiserver-token
  projected:
    defaultMode: 288 # 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                apiVersion: v1
                fieldPath: metadata.namespace
{{- end }}

{{/* Where a pod of the chart may run and how its image is pulled. */}}
{{- define "mco.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if not (kindIs "invalid" .Values.podSecurity.hostUsers) }}
hostUsers: {{ .Values.podSecurity.hostUsers }}
{{- end }}
{{- end }}

{{/* Variables and token of RRSA, for each pod that reaches the cloud. */}}
{{- define "mco.rrsa" -}}
{{- if and .Values.rrsa.enabled (not .Values.rrsa.webhookRoleName) -}}true{{- end }}
{{- end }}

{{- define "mco.rrsaEnv" -}}
{{- if include "mco.rrsa" . }}
- name: ALIBABA_CLOUD_ROLE_ARN
  value: {{ .Values.rrsa.roleArn | quote }}
- name: ALIBABA_CLOUD_OIDC_PROVIDER_ARN
  value: {{ .Values.rrsa.oidcProviderArn | quote }}
- name: ALIBABA_CLOUD_OIDC_TOKEN_FILE
  value: /var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token
{{- end }}
{{- end }}

{{- define "mco.rrsaMount" -}}
{{- if include "mco.rrsa" . }}
- name: rrsa-token
  mountPath: /var/run/secrets/ack.alibabacloud.com/rrsa-tokens
  readOnly: true
{{- end }}
{{- end }}

{{- define "mco.rrsaVolume" -}}
{{- if include "mco.rrsa" . }}
- name: rrsa-token
  projected:
    defaultMode: 288 # 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ .Values.rrsa.audience | quote }}
          expirationSeconds: {{ int64 .Values.rrsa.tokenExpirationSeconds }}
{{- end }}
{{- end }}

{{/* Whether an object of a kind that the cluster may lack is made. */}}
{{- define "mco.monitoring" -}}
{{- if or (eq .Values.metrics.renderMode "Always") (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1") -}}true{{- end }}
{{- end }}

{{/* For linters: what a release or the platform sets, and a chart cannot know. */}}
{{- define "mco.lintNote" -}}
{{- if not .Values.image.digest }}
checkov.io/skip1: CKV_K8S_43=a release names the digest; set image.digest
{{- end }}
{{- if not .Values.podSecurity.runAsUser }}
kube-score/ignore: container-security-context-user-group-id
{{- end }}
{{- end }}
