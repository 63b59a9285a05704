"""Hydra config tree, on top of verl's own. The plug-in imports it everywhere: any process may resolve the config."""

import os
import shutil
from pathlib import Path

from omegaconf import OmegaConf

OmegaConf.register_new_resolver(
    "dsdr_hardware", lambda: "gpu" if shutil.which("nvidia-smi") else "cpu", replace=True
)  # what the profile `hardware` is when nothing is said
OmegaConf.register_new_resolver(
    "dsdr_threads", lambda ranks: str(max(1, len(os.sched_getaffinity(0)) // int(ranks))), replace=True
)  # cores of this machine for each training process
OmegaConf.register_new_resolver(
    "dsdr_router", lambda hashed: None if hashed else str(Path(__file__).with_name("router.yaml")), replace=True
)  # verl's own balancer, and no other, can choose by a hash, which `rollout.full_determinism` asks for
