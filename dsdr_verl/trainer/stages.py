"""Which part of a step the trainer is in, told to whoever started the run."""

from __future__ import annotations

from functools import wraps

# Methods of the trainer, and what a person calls what they do.
STAGES = {
    "on_sample_begin": "generation and scoring",
    "_compute_old_log_prob": "log-probs",
    "_compute_ref_log_prob": "log-probs of the reference",
    "_compute_advantage": "advantages",
    "_update_actor": "update",
    "on_step_end": "weight sync",
    "_validate": "validation",
    "_write_checkpoint": "checkpoint",
}
START = "start-up"


def staged(trainer: type) -> type:
    """A class decorator: each of these methods sends the event `stage` as it is entered."""
    for method, name in STAGES.items():
        setattr(trainer, method, _told(getattr(trainer, method), name))
    return trainer


def _told(method, name: str):
    @wraps(method)
    def entered(self, *args, **kwargs):
        self.events.send("stage", name=name, step=self.global_steps)
        return method(self, *args, **kwargs)

    return entered
