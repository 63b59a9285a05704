"""The task runner: the actor that holds the trainer. verl's own, with our trainer registered where it runs."""

from __future__ import annotations

import ray
from verl.trainer.main_ppo import TaskRunnerV1


# `TaskRunnerV1` is already an actor class and cannot be subclassed; the class behind it can.
@ray.remote(num_cpus=1)
class DSDRTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    def run(self, config) -> None:
        import dsdr_verl.trainer.dsdr_trainer  # noqa: F401 - registers trainer mode "dsdr" in this process
        from dsdr_verl.loaded import require_loaded

        require_loaded()
        super().run(config)
