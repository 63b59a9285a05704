"""What the KubeRay operator (1.3 or later) is given: a RayCluster, or a RayJob that has a cluster of its own."""

from __future__ import annotations

from dsdr_verl.cluster.backends import NODE_ENVIRONMENT
from dsdr_verl.cluster.inventory import Inventory

USER = 1000  # the images' own, who is to write to the volume


def ray_cluster(inventory: Inventory) -> dict:
    return _manifest(inventory, "RayCluster", inventory.name, _cluster(inventory, inventory.dashboard_host, []))


def ray_job(inventory: Inventory) -> dict:
    """Values of `env` come from a Secret, which is made by
    `kubectl create secret generic <name>-env --from-literal=WANDB_API_KEY=...`."""
    secret = f"{inventory.name}-env"
    from_secret = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for key in inventory.env
    ]  # fmt: skip
    spec = {
        "entrypoint": (
            f"python -m dsdr_verl.main_ppo +algorithm=dsdr hardware={inventory.hardware}"
            f" trainer.nnodes={inventory.size} trainer.n_gpus_per_node={inventory.gpus_per_node}"
        ),
        "shutdownAfterJobFinishes": True,
        # the operator submits by the head's service, so the dashboard listens on the pod's address
        "rayClusterSpec": _cluster(inventory, "0.0.0.0", from_secret),
    }
    return _manifest(inventory, "RayJob", f"{inventory.name}-job", spec)


def _manifest(inventory: Inventory, kind: str, name: str, spec: dict) -> dict:
    metadata = {"name": name, "namespace": inventory.kuberay.namespace}
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _cluster(inventory: Inventory, dashboard_host: str, env: list[dict]) -> dict:
    ports, workers = inventory.ports, inventory.size - 1
    start = {"num-gpus": str(inventory.gpus_per_node), "dashboard-agent-listen-port": str(ports.agent)}
    if inventory.cpus_per_node:
        start["num-cpus"] = str(inventory.cpus_per_node)
    listens = {
        "port": str(ports.gcs), "dashboard-host": dashboard_host, "dashboard-port": str(ports.dashboard),
        "metrics-export-port": str(ports.metrics),
    }  # fmt: skip
    # by these names the operator finds what its probes and the head's service are to use
    named = {"gcs-server": ports.gcs, "dashboard": ports.dashboard, "metrics": ports.metrics}
    spec = {"headGroupSpec": {"rayStartParams": start | listens, "template": _pod(inventory, "ray-head", named, env)}}
    if workers:
        template = _pod(inventory, "ray-worker", {}, env)
        group = {"groupName": "worker", "replicas": workers, "minReplicas": workers, "maxReplicas": workers}
        spec["workerGroupSpecs"] = [{**group, "rayStartParams": start, "template": template}]
    return spec


def _pod(inventory: Inventory, name: str, ports: dict[str, int], env: list[dict]) -> dict:
    asked, on_gpu = inventory.kuberay, inventory.hardware == "gpu"
    limits, requests = {"memory": asked.memory}, {"memory": asked.memory}
    if on_gpu:
        limits["nvidia.com/gpu"] = inventory.gpus_per_node
        requests |= {"cpu": inventory.cpus_per_node} if inventory.cpus_per_node else {}
    mounts = {"/dev/shm": {"emptyDir": {"medium": "Memory", "sizeLimit": asked.shared_memory}}}
    if asked.volume_claim:
        mounts["/workspace"] = {"persistentVolumeClaim": {"claimName": asked.volume_claim}}
    environment = NODE_ENVIRONMENT | {"RAY_USAGE_STATS_ENABLED": "0"}
    container = {
        "name": name,
        "image": asked.image,
        "env": [{"name": key, "value": value} for key, value in environment.items()] + env,
        "ports": [{"name": key, "containerPort": port} for key, port in ports.items()],
        "resources": {"limits": limits, "requests": requests},
        "volumeMounts": [{"name": path.split("/")[-1], "mountPath": path} for path in mounts],
    }
    spec = {
        "securityContext": {"fsGroup": USER},
        "containers": [container],
        "volumes": [{"name": path.split("/")[-1], **source} for path, source in mounts.items()],
        # nodes with GPUs are often kept from other pods
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}] if on_gpu else [],
    }
    return {"spec": spec}
