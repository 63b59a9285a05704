"""Hydra config tree, on top of verl's own. Hydra imports this package when it searches it, under either entry."""

import os
import shutil

from omegaconf import OmegaConf

OmegaConf.register_new_resolver(
    "dsdr_hardware", lambda: "gpu" if shutil.which("nvidia-smi") else "cpu", replace=True
)  # what the profile `hardware` is when nothing is said
OmegaConf.register_new_resolver(
    "dsdr_threads", lambda ranks: str(max(1, len(os.sched_getaffinity(0)) // int(ranks))), replace=True
)  # cores of this machine for each training process
