{{/* Combinations that cannot work are refused, with what to write instead. */}}
{{- define "mco.guards" -}}
{{- $v := .Values }}
{{- if and (gt (int $v.replicas) 1) (not $v.leaderElection.enabled) }}
{{- fail "replicas: without leader election exactly one may run; write `replicas: 1`, or leave `leaderElection.enabled: true`" }}
{{- end }}
{{- if gt (mul 5 (int $v.leaderElection.renewDeadlineSeconds)) (mul 4 (int $v.leaderElection.leaseDurationSeconds)) }}
{{- fail "leaderElection.renewDeadlineSeconds: it may be four fifths of leaseDurationSeconds at most, or two could work at once; write for example 10 and 15" }}
{{- end }}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) }}
{{- fail "serviceAccount.name: name the one that is there, or leave `serviceAccount.create: true`; the namespace's `default` account should have no rights" }}
{{- end }}
{{- with $v.rrsa }}
{{- if and .enabled (not .webhookRoleName) (not (and .roleArn .oidcProviderArn)) }}
{{- fail "rrsa: write `roleArn` and `oidcProviderArn`, or `webhookRoleName` where ack-pod-identity-webhook runs" }}
{{- end }}
{{- if and .webhookRoleName (or .roleArn .oidcProviderArn) }}
{{- fail "rrsa: `webhookRoleName` has the webhook set role and provider; leave `roleArn` and `oidcProviderArn` out, or `webhookRoleName`" }}
{{- end }}
{{- if and (not .enabled) (or .roleArn .oidcProviderArn .webhookRoleName) }}
{{- fail "rrsa.enabled: a role is named and nothing would use it; write `rrsa.enabled: true`" }}
{{- end }}
{{- end }}
{{- if and $v.rrsa.webhookRoleName (not $v.serviceAccount.create) }}
{{- fail "rrsa.webhookRoleName: it is written as an annotation of the service account, which the chart does not make here; annotate yours with `pod-identity.alibabacloud.com/role-name`, and leave it out" }}
{{- end }}
{{- with $v.podDisruptionBudget }}
{{- if and .enabled (not (kindIs "invalid" .minAvailable)) (not (kindIs "invalid" .maxUnavailable)) }}
{{- fail "podDisruptionBudget: Kubernetes takes one of them; to have `minAvailable`, write `maxUnavailable: null`" }}
{{- end }}
{{- if and .enabled (kindIs "invalid" .minAvailable) (kindIs "invalid" .maxUnavailable) }}
{{- fail "podDisruptionBudget: write `minAvailable` or `maxUnavailable`, or `enabled: false`" }}
{{- end }}
{{- if and .enabled (not (kindIs "invalid" .minAvailable)) (gt (int $v.replicas) 1) }}
{{- $least := toString .minAvailable }}
{{- /* Kubernetes rounds a share up. */}}
{{- $needed := ternary (ceil (divf (mulf (trimSuffix "%" $least) $v.replicas) 100)) (float64 .minAvailable) (hasSuffix "%" $least) }}
{{- if ge (int $needed) (int $v.replicas) }}
{{- fail "podDisruptionBudget.minAvailable: it must be less than `replicas`, or no node could ever be drained" }}
{{- end }}
{{- end }}
{{- if and .enabled (gt (int $v.replicas) 1) (has (toString .maxUnavailable) (list "0" "0%")) }}
{{- fail "podDisruptionBudget.maxUnavailable: with none no node could ever be drained; write 1" }}
{{- end }}
{{- end }}
{{- if and (not $v.crds.enabled) (not $v.crds.keep) }}
{{- fail "crds.keep: the chart deletes only definitions that it has installed; write `crds.enabled: true`; to stop installing them and lose nothing, upgrade with `crds.keep: true` first, and then with `crds.enabled: false`" }}
{{- end }}
{{- with $v.metrics }}
{{- if and (not .enabled) (or .serviceMonitor.enabled .podMonitor.enabled .prometheusRule.enabled .dashboard.enabled) }}
{{- fail "metrics.enabled: monitors, alerts and dashboard need it; write `metrics.enabled: true`, or turn them off" }}
{{- end }}
{{- if and .serviceMonitor.enabled .podMonitor.enabled }}
{{- fail "metrics: with ServiceMonitor and PodMonitor everything would be counted twice; turn one of them off" }}
{{- end }}
{{- if and .serviceMonitor.enabled (not .service.enabled) }}
{{- fail "metrics.serviceMonitor: it finds the pods through the Service; write `metrics.service.enabled: true`, or use `metrics.podMonitor`" }}
{{- end }}
{{- end }}
{{- if and $v.contactSecrets.allNamespaces $v.contactSecrets.namespaces }}
{{- fail "contactSecrets: `allNamespaces` includes those of `namespaces`; leave one of them out" }}
{{- end }}
{{- range $v.contactSecrets.namespaces }}
{{- if and $v.watchNamespaces (not (has .namespace $v.watchNamespaces)) }}
{{- fail (printf "contactSecrets.namespaces: `%s` is not watched, so nothing there would be read; add it to `watchNamespaces`, or take it out" .namespace) }}
{{- end }}
{{- end }}
{{- $ours := list "MCO_NAMESPACE" "MCO_LEADER_ELECTION" "MCO_LEASE_DURATION" "MCO_RENEW_DEADLINE" "MCO_HEALTH_ADDR" "MCO_METRICS_ADDR" "MCO_LOG_FORMAT" "MCO_LOG" "MCO_WATCH_NAMESPACE" "MCO_ALLOW_ENDPOINT" }}
{{- range $v.extraEnv }}
{{- if has .name $ours }}
{{- fail (printf "extraEnv: the chart sets %s from its values; write that value instead" .name) }}
{{- end }}
{{- end }}
{{- range $v.extraArgs }}
{{- $flag := splitList "=" (toString .) | first }}
{{- if has (printf "MCO_%s" ($flag | trimPrefix "--" | replace "-" "_" | upper)) $ours }}
{{- fail (printf "extraArgs: the chart sets %s from its values; write that value instead" $flag) }}
{{- end }}
{{- end }}
{{- end }}
