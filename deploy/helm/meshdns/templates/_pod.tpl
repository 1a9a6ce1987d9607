{{- /*
What a pod needs, for templates of this chart and of charts that depend on it:

    spec:
      {{- with .Subcharts.meshdns }}
      initContainers:
        {{- include "meshdns.initContainers" . | nindent 8 }}
      volumes:
        {{- include "meshdns.volumes" . | nindent 8 }}
      {{- end }}

With `condition: meshdns.enabled` in that chart's dependencies, `with` leaves it out where it is not enabled; where it has an
alias, that stands behind .Subcharts. It is what `meshdns inject` prints; a test compares the two.
*/}}
{{- define "meshdns.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The entries of a release are its own, for a ConfigMap belongs to one; without any it shares the namespace's. */}}
{{- define "meshdns.configMap" -}}
{{- if .Values.configMap -}}
{{ .Values.configMap }}
{{- else if not .Values.entries -}}
meshdns-entries
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name }}-entries
{{- else -}}
{{ .Release.Name }}-{{ .Chart.Name }}-entries
{{- end }}
{{- end }}

{{- define "meshdns.initContainers" -}}
{{- $legacy := eq .Values.backend "iptables-legacy" -}}
- name: meshdns-capture
  image: {{ include "meshdns.image" . }}
  command:
  - meshdns
  - capture
  - install
{{- if ne .Values.backend "auto" }}
  args:
  - --backend
  - {{ .Values.backend }}
{{- end }}
{{- if $legacy }}
  env:
  - name: XTABLES_LOCKFILE
    value: /run/meshdns/xtables.lock
{{- end }}
  resources:
    requests:
      cpu: 10m
      memory: 32Mi
    limits:
      cpu: '1'
      memory: 128Mi
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    runAsUser: 0
    runAsGroup: 0
    runAsNonRoot: false
    privileged: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      add:
      - NET_ADMIN
      {{- if $legacy }}
      - NET_RAW
      {{- end }}
      drop:
      - ALL
    seccompProfile:
      type: RuntimeDefault
{{- if $legacy }}
  volumeMounts:
  - name: meshdns-run
    mountPath: /run/meshdns
{{- end }}
- name: meshdns-resolver
  image: {{ include "meshdns.image" . }}
  command:
  - meshdns
  - resolver
  - run
  args:
  - --manifests
  - /etc/meshdns/entries
  - --state
  - /var/lib/meshdns
  - --admin
  - {{ .Values.admin | quote }}
  restartPolicy: Always
  env:
  - name: MESHDNS_RESOLVER_NAMESPACE
    valueFrom:
      fieldRef:
        apiVersion: v1
        fieldPath: metadata.namespace
  ports:
  - name: meshdns-admin
    containerPort: {{ splitList ":" .Values.admin | last }}
    protocol: TCP
  startupProbe:
    httpGet:
      path: /readyz
      port: {{ splitList ":" .Values.admin | last }}
    periodSeconds: 1
    timeoutSeconds: 3
    failureThreshold: 120
  readinessProbe:
    httpGet:
      path: /readyz
      port: {{ splitList ":" .Values.admin | last }}
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: 3
  livenessProbe:
    httpGet:
      path: /healthz
      port: {{ splitList ":" .Values.admin | last }}
    periodSeconds: 10
    timeoutSeconds: 3
    failureThreshold: 3
  resources:
    requests:
      cpu: 10m
      memory: 64Mi
    limits:
      cpu: '2'
      memory: 256Mi
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    runAsUser: 1337
    runAsGroup: 1337
    runAsNonRoot: true
    privileged: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop:
      - ALL
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
  - name: meshdns-entries
    mountPath: /etc/meshdns/entries
    readOnly: true
  - name: meshdns-state
    mountPath: /var/lib/meshdns
{{- end }}

{{- define "meshdns.volumes" -}}
- name: meshdns-entries
  configMap:
    name: {{ include "meshdns.configMap" . }}
    optional: true
- name: meshdns-state
  emptyDir: {}
{{- if eq .Values.backend "iptables-legacy" }}
- name: meshdns-run
  emptyDir: {}
{{- end }}
{{- end }}
