"""What this machine, or the cluster that it joins, has and can run."""

import os
import shutil
from importlib.util import find_spec

from omegaconf import DictConfig

from dsdr_verl.checks.reading import ACTOR, MODEL, ROLLOUT, get, gpus, items, ulysses, whole
from dsdr_verl.checks.wording import Problems, not_among, not_dividing, show

ON_CPU = {
    f"{ACTOR}.strategy": "fsdp2",
    f"{ACTOR}.ulysses_sequence_parallel_size": 1,  # the CPU's attention does not gather the parts of a sequence
    f"{ROLLOUT}.name": "vllm",
    f"{MODEL}.lora_rank": 0,
    f"{MODEL}.use_remove_padding": True,
}


def loggers(config: DictConfig) -> Problems:
    from verl.utils.tracking import Tracking

    key, package_of = "trainer.logger", {"console": "verl", "file": "verl", "vemlp_wandb": "volcengine_ml_platform"}
    for name in items(get(config, key)):
        yield from not_among(key, name, Tracking.supported_backend)
        package = package_of.get(name, name)
        if name in Tracking.supported_backend and find_spec(package) is None:
            yield f"{key} has {name!r}, and its package is not installed; pip install {package}, or leave it out"


def device(config: DictConfig) -> Problems:
    key, nodes, cluster = "trainer.device", "trainer.nnodes", os.environ.get("RAY_ADDRESS")
    name = get(config, key)
    yield from not_among(key, name, ("cpu", "cuda", "npu"))
    if name == "cuda" and not cluster and not shutil.which("nvidia-smi"):
        yield f"{key} is 'cuda', and this machine has no nvidia-smi; choose hardware=cpu, or set RAY_ADDRESS"
    if (whole(config, nodes) or 1) > 1 and not cluster:
        yield f"{nodes} is {get(config, nodes)}, and RAY_ADDRESS is not set; set that to a cluster's, or {nodes}=1"
    for option, fit in ON_CPU.items():
        if name == "cpu" and get(config, option) != fit:
            yield f"{option} is {show(get(config, option))}, which does not work with {key}=cpu; set it to {show(fit)}"


def gpu_groups(config: DictConfig) -> Problems:
    """GPUs that share an engine, or a sequence."""
    total, engine = "trainer.n_gpus_per_node × trainer.nnodes", f"{ROLLOUT}.tensor_model_parallel_size"
    yield from not_dividing(engine, whole(config, engine), gpus(config), total)
    yield from not_dividing(f"{ACTOR}.ulysses_sequence_parallel_size", ulysses(config), gpus(config), total)
