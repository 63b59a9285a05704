"""`kuberay`: a RayCluster that the KubeRay operator keeps up; `rayjob.yaml` beside it trains without `submit`."""

from __future__ import annotations

from contextlib import AbstractContextManager

import yaml

from dsdr_verl.cluster.backends import ClusterError, run_tool, write_files
from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.cluster.manifests import ray_cluster, ray_job
from dsdr_verl.cluster.tunnel import forwarding, free_port

CLUSTER, JOB = "raycluster.yaml", "rayjob.yaml"
INSTALL = "see kubernetes.io/docs/tasks/tools"
START_S = 1200  # an image of many GB is pulled first
STOP_S = 120


def files(inventory: Inventory) -> dict[str, str]:
    manifests = {CLUSTER: ray_cluster(inventory), JOB: ray_job(inventory)}
    return {name: yaml.safe_dump(manifest, sort_keys=False) for name, manifest in manifests.items()}


def up(inventory: Inventory) -> None:
    """Applies the RayCluster and waits for its head; the operator replaces pods that have gone."""
    write_files(inventory, files(inventory))
    _kubectl(inventory, "apply", "--filename", str(inventory.folder / CLUSTER))
    ready = ["wait", "--for=condition=HeadPodReady", f"--timeout={START_S}s", f"raycluster/{inventory.name}"]
    try:
        _kubectl(inventory, *ready)
    except ClusterError:
        _kubectl(inventory, "get", "pods", "--output=wide", _pods_of(inventory))
        _kubectl(inventory, "get", "events", "--field-selector=type=Warning")
        raise


def down(inventory: Inventory) -> None:
    _kubectl(inventory, "delete", "raycluster", inventory.name, "--ignore-not-found")
    _kubectl(inventory, "wait", "--for=delete", "pod", _pods_of(inventory), f"--timeout={STOP_S}s")


def dashboard(inventory: Inventory) -> AbstractContextManager[str]:
    port, service = free_port(), f"service/{inventory.name}-head-svc"
    forward = ["kubectl", "--namespace", inventory.kuberay.namespace, "port-forward", service]
    return forwarding([*forward, f"{port}:{inventory.ports.dashboard}"], port, service)


def _kubectl(inventory: Inventory, *arguments: str) -> None:
    run_tool(["kubectl", "--namespace", inventory.kuberay.namespace, *arguments], INSTALL)


def _pods_of(inventory: Inventory) -> str:
    return f"--selector=ray.io/cluster={inventory.name}"
