"""One config, estimated."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from dsdr_verl.checks.reading import MODEL, get
from dsdr_verl.planning import problems
from dsdr_verl.planning.batches import Batches, batches
from dsdr_verl.planning.memory import Memory, memory
from dsdr_verl.planning.shapes import ModelShape, shape_of
from dsdr_verl.planning.stages import GPU, Stages, stages
from dsdr_verl.planning.traffic import Traffic, traffic


@dataclass(frozen=True)
class Estimate:
    """All that is planned of a config; `problems` is empty if it validates and fits."""

    shape: ModelShape
    batch: Batches
    memory: Memory
    traffic: Traffic
    stages: Stages
    problems: list[str]


def estimate(config: DictConfig, gpu: GPU, response: float | None = None) -> Estimate:
    """Plan `config` on nodes of `gpu`, with responses of `response` tokens on average (default: half of the longest).

    Raises:
        ValueError: the checks found numbers that nothing can be worked out from, or the model's shape is not known.
    """
    found = problems.check_problems(config)
    try:
        batch = batches(config)
        shape = shape_of(str(get(config, f"{MODEL}.path")))
        room = memory(config, shape, batch, gpu.memory)
        stage = stages(config, shape, batch, room, gpu, response or batch.longest_response / 2)
    except (TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError("\n".join(found) or str(error)) from error
    found += problems.verl_problems(config)
    found += problems.fit_problems(config, shape, batch, room, gpu.memory)
    found += problems.scoring_problems(config, stage)
    return Estimate(shape, batch, room, traffic(shape, batch), stage, found)
