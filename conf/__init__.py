"""Hydra config tree, on top of verl's own. The plug-in imports it everywhere: any process may resolve the config."""

import os
import shutil

from omegaconf import OmegaConf

OmegaConf.register_new_resolver(
    "dsdr_hardware", lambda: "gpu" if shutil.which("nvidia-smi") else "cpu", replace=True
)  # what the profile `hardware` is when nothing is said
OmegaConf.register_new_resolver(
    "dsdr_threads", lambda ranks: str(max(1, len(os.sched_getaffinity(0)) // int(ranks))), replace=True
)  # cores of this machine for each training process
