"""What is wrong with a config, found before anything is started: no Ray, no model, and nothing is written.

A check is a function that yields one sentence for each problem: the config key, its value, and the fix. To add one,
write it in the module that its keys belong to and append it to `CHECKS`. A plain lower bound on a whole number is a
line of `batches.LEAST` instead.
"""

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dsdr_verl.checks import algorithm, batches, code, data, folders, machine, model, secrets

CHECKS = (
    algorithm.chosen, algorithm.options, algorithm.health, algorithm.names, algorithm.local_estimator,
    algorithm.validation_only,
    batches.numbers, batches.batch_sizes, batches.micro_batches, batches.vllm_lengths,
    data.files, data.enough_rows,
    model.path, model.encoder,
    machine.loggers, machine.device, machine.cluster, machine.gpu_groups, machine.memory,
    folders.writable, folders.resume, folders.disk,
    secrets.kept_out, code.targets,
)  # fmt: skip


def config_problems(config: DictConfig) -> list[str]:
    """Every problem of `config`, one sentence each; empty if it may be run."""
    found: list[str] = []
    for check in CHECKS:
        try:
            found += check(config)
        except OmegaConfBaseException as error:  # an interpolation that leads nowhere
            key, reason = error.full_key or check.__name__, str(error).splitlines()[0]
            found.append(f"{key} cannot be resolved: {reason}; set it, or the key that it refers to")
    return list(dict.fromkeys(secrets.hidden(config, found))) if found else []
