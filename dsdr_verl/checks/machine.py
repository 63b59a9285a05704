"""What this machine, or the cluster that it joins, has and can run."""

import os
import shutil
from importlib.util import find_spec

from omegaconf import DictConfig

from dsdr_verl.checks.model import weight_bytes
from dsdr_verl.checks.reading import ACTOR, MODEL, ROLLOUT, get, gpus, items, ulysses, whole
from dsdr_verl.checks.wording import Problems, not_among, not_dividing, show
from dsdr_verl.doctor.resources import available_memory
from dsdr_verl.ray_address import joins_cluster

GIB = 2**30
# All processes of a run on the CPU but the trainer's and vLLM's workers: 5.4 GiB in the demo (docs/performance.md).
STACK = 5 * GIB

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


def cluster(config: DictConfig) -> Problems:
    """One way to name it, and only one that a run takes for its own and ends."""
    key = "ray_kwargs.ray_init.address"
    address = get(config, key)
    if address not in (None, "local"):
        yield f"{key} is {address!r}, and a run does not join a cluster so; drop it, and set RAY_ADDRESS={address}"


def gpu_groups(config: DictConfig) -> Problems:
    """GPUs that share an engine, or a sequence."""
    total, engine = "trainer.n_gpus_per_node × trainer.nnodes", f"{ROLLOUT}.tensor_model_parallel_size"
    yield from not_dividing(engine, whole(config, engine), gpus(config), total)
    yield from not_dividing(f"{ACTOR}.ulysses_sequence_parallel_size", ulysses(config), gpus(config), total)


def memory(config: DictConfig) -> Problems:
    """The least that a run on this machine's CPU takes: activations, buffers and the two workers' imports come on top,
    so the demo, which takes 8 GiB by this, was measured at 13.7."""
    ranks, engine = gpus(config), f"{ROLLOUT}.tensor_model_parallel_size"
    if get(config, "trainer.device") != "cpu" or joins_cluster() or not ranks:
        return
    cache = f"{ROLLOUT}.engine_kwargs.vllm.kv_cache_memory_bytes"
    # the trainer's, over all ranks: weights, gradients, Adam's two moments, and the reference
    with_reference = get(config, f"{ACTOR}.use_kl_loss") or get(config, "algorithm.use_kl_in_reward")
    weights = weight_bytes(config) or 0
    trainer = (5 if with_reference else 4) * weights
    copies = max(ranks // (whole(config, engine) or 1), 1)
    engines = copies * weights * (1 if get(config, f"{ROLLOUT}.dtype") == "float32" else 0.5)
    engines += ranks * (whole(config, cache) or 0)
    needed, (available, _, where) = STACK + trainer + engines, available_memory()
    if needed > available:
        parts = f"{trainer / GIB:.1f} for the trainer, {engines / GIB:.1f} for {copies} of vLLM, {STACK / GIB:.0f} else"
        yield (
            f"trainer.device is 'cpu' with {available / GIB:.1f} GiB of memory available {where}, and the run takes "
            f"at least {needed / GIB:.1f} GiB ({parts}); choose a smaller {MODEL}.path, lower {cache} or "
            "trainer.n_gpus_per_node, or free some memory"
        )
