"""Values files for the chart: those that the official chart's documentation shows, and one for each of our own parts.

OTHER stands for a second namespace.
"""

from __future__ import annotations

from tests.support import SEED_VALUES

OTHER = "the-other-namespace"
KEYS = "clearml: {agentk8sglueKey: 4KQ2X, agentk8sglueSecret: n0t-a-placeholder}\n"
OFFICIAL = """
global:
  imageRegistry: "docker.io"
imageCredentials:
  enabled: false
  existingSecret: ""
  registry: docker.io
  username: someone
  password: pwd
  email: someone@host.com
clearml:
  existingAgentk8sglueSecret: ""
  agentk8sglueKey: "4KQ2X"
  agentk8sglueSecret: "n0t-a-placeholder"
  existingClearmlConfigSecret: ""
  clearmlConfig: |-
    sdk {
    }
agentk8sglue:
  image:
    registry: ""
    repository: "somebody/agent"
    tag: "1.24-21"
  replicaCount: 1
  resources: {}
  initContainers:
    resources: {}
  serviceAccountAnnotations: {}
  serviceExistingAccountName: ""
  clearmlcheckCertificate: true
  apiServerUrlReference: "https://api.clear.ml"
  fileServerUrlReference: "https://files.clear.ml"
  webServerUrlReference: "https://app.clear.ml"
  defaultContainerImage: ubuntu:24.04
  queue: default
  createQueueIfNotExists: false
  labels: {}
  annotations: {}
  extraEnvs: []
  podSecurityContext: {}
  containerSecurityContext: {}
  additionalClusterRoleBindings: []
  additionalRoleBindings: []
  nodeSelector: {}
  tolerations: []
  affinity: {}
  volumes: []
  volumeMounts: []
  fileMounts: []
  basePodTemplate:
    labels: {}
    annotations: {}
    initContainers: []
    schedulerName: ""
    volumes: []
    volumeMounts: []
    fileMounts: []
    env: []
    resources: {}
    priorityClassName: ""
    nodeSelector: {}
    tolerations: []
    affinity: {}
    podSecurityContext: {}
    containerSecurityContext: {}
    hostAliases: []
sessions:
  portModeEnabled: false
  svcAnnotations: {}
  svcType: "NodePort"
  externalIP: 0.0.0.0
  startingPort: 30000
  maxServices: 20
"""
"""Every key of the official chart 5.3 with its default, but for the two credentials."""

MATRIX: dict[str, str] = {
    "cloud": KEYS,
    "official, every key": OFFICIAL,
    "seed": KEYS + SEED_VALUES,
    "self-hosted": KEYS
    + """
agentk8sglue:
  apiServerUrlReference: http://clearml-apiserver.clearml:8008
  fileServerUrlReference: http://clearml-fileserver.clearml:8081
  webServerUrlReference: http://clearml-webserver.clearml:80
  clearmlcheckCertificate: false
  createQueueIfNotExists: true
  queue: a,b
""",
    "no Events, and nodes that are given up": KEYS
    + """
agentk8sglue:
  kubernetesEvents: false
  queues: {a: {onNodeLost: replace}, b: {}}
""",
    "GPU": KEYS
    + """
agentk8sglue:
  queue: gpu
  basePodTemplate:
    resources: {limits: {nvidia.com/gpu: 1}}
    nodeSelector: {fleet: gpu-nodes}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
    runtimeClassName: nvidia
""",
    "private registry, repository, everything of the agent's own pod": """
global: {imageRegistry: registry.example.org}
imageCredentials: {enabled: true, registry: registry.example.org, username: robot, password: "s3cret$", email: a@b.c}
clearml: {existingAgentk8sglueSecret: given, existingClearmlConfigSecret: given-conf}
agentk8sglue:
  replicaCount: 2
  resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}
  serviceAccountAnnotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::1:role/x"}
  additionalClusterRoleBindings: [privileged]
  additionalRoleBindings: [reader]
  labels: {team: ml}
  annotations: {note: "1"}
  extraEnvs: [{name: PYTHONPATH, value: somepath}]
  podSecurityContext: {runAsUser: 0}
  containerSecurityContext: {readOnlyRootFilesystem: false}
  nodeSelector: {fleet: agent-nodes}
  tolerations: [{key: a, operator: Exists}]
  affinity:
    nodeAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - {weight: 1, preference: {matchExpressions: [{key: a, operator: Exists}]}}
  volumes: [{name: yourvolume, nfs: {server: 192.168.0.1, path: /var/nfs/mount}}]
  volumeMounts: [{name: yourvolume, mountPath: /yourpath, subPath: userfolder}]
  fileMounts: [{name: integration.py, folderPath: /mnt/python, fileContent: "def f(): pass"}]
  basePodTemplate:
    labels: {a: b}
    annotations: {key1: value1}
    initContainers: [{name: first, image: busybox, command: [sh, -c, "echo x"]}]
    schedulerName: scheduler
    volumes: [{name: yourvolume, nfs: {server: 192.168.0.1, path: /var/nfs/mount}}]
    volumeMounts: [{name: yourvolume, mountPath: /yourpath, subPath: userfolder}]
    fileMounts: [{name: mounted-file.txt, folderPath: /mnt/, fileContent: "a\\nb"}]
    env:
      - {name: CLEARML_AGENT_GIT_USER, value: me}
      - {name: CLEARML_AGENT_GIT_PASS, valueFrom: {secretKeyRef: {name: git-password, key: git-password}}}
      - {name: CURL_CA_BUNDLE, value: ""}
    priorityClassName: ""
    affinity: {}
    podSecurityContext: {runAsUser: 1001, fsGroup: 1001}
    containerSecurityContext: {runAsUser: 1001}
    hostAliases: [{ip: 127.0.0.1, hostnames: [foo.local, bar.local]}]
""",
    "existing secrets": """
imageCredentials: {enabled: true, existingSecret: pull}
agentk8sglue:
  credentialsSecret: mine
  credentialsSecretKeys: {accessKey: a, secretKey: b}
  serviceExistingAccountName: robot
  queues: [b, a]
podstrap: {taskServiceAccount: {create: false}}
""",
    "two namespaces, limits, a claim": f"""
{KEYS}
agentk8sglue:
  instance: Team_A.1
  ttlSecondsAfterFinished: 2000000
  maxPods: 10
  pollSeconds: 0.5
  queue: z
  queues:
    a: {{namespace: {OTHER}, maxAttempts: 5, onDisruption: fail, queueSettings: {{maxPods: 4}}}}
    "n.u α": null
  cache: {{maxGib: 50, maxDays: 7}}
  rules: [{{when: {{types: [controller]}}, templateOverrides: {{resources: {{limits: {{nvidia.com/gpu: 0}}}}}}}}]
podstrap: {{cache: {{persistentVolumeClaim: {{create: true, size: 10Gi, storageClassName: fast, keep: false}}}}}}
""",
    "node folders, whole template": KEYS
    + """
agentk8sglue:
  basePodTemplate:
    spec: {serviceAccountName: theirs, securityContext: {fsGroup: 5}, containers: [{name: task, image: x}]}
podstrap: {cache: {hostPath: /var/cache/podstrap}}
""",
    "proxy and certificates": KEYS
    + """
podstrap:
  proxy: {http: "http://proxy:3128", https: "http://proxy:3128", exceptions: .example.org}
  certificates: {configMap: bundle}
  networkPolicy: {enabled: true, egressPorts: [443, 3128], extraEgress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}
  podDisruptionBudget: {enabled: true}
agentk8sglue: {replicaCount: 3, apiServerUrlReference: "https://clearml.example.org:8443"}
""",
    "metrics, whole and for a few": KEYS
    + """
podstrap:
  metrics:
    port: 9402
    podMonitor: {enabled: true, labels: {release: prometheus}, interval: 15s}
    prometheusRule: {enabled: true, labels: {role: alerts}, without: [PodstrapTasksFail], runbook: "https://docs.example.org/alerts"}
    dashboard: {enabled: true, annotations: {grafana_folder: ML}}
  networkPolicy:
    enabled: true
    metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
""",
    "no metrics": KEYS + "podstrap: {metrics: {enabled: false}, networkPolicy: {enabled: true}}\n",
    "OpenShift": KEYS
    + """
agentk8sglue:
  podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}
  basePodTemplate: {podSecurityContext: {runAsUser: 1000650000}}
  webServerUrlReference: ""
podstrap:
  cache: {persistentVolumeClaim: {existingClaim: shared}, fsGroup: null}
  certificates: {secret: bundle, key: all.pem}
""",
    "drained by a Job": KEYS + "podstrap: {runAs: Job, drain: {timeoutSeconds: 3600, failOnTaskFailure: true}}\n",
    "drained by a CronJob": KEYS + 'podstrap: {runAs: CronJob, drain: {schedule: "0 * * * *"}, logFormat: json}\n',
}
