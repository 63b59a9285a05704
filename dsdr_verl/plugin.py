"""verl imports this module in every process (entry point `verl.plugins`), so imports stay light.

verl logs a failing plug-in at DEBUG level and goes on without it: `dsdr_verl.loaded` is what notices.
"""

from __future__ import annotations

from dsdr_verl.platform import vllm_metadata

# Before anything of verl's own looks for vLLM.
vllm_metadata.install()

import dsdr_verl.conf  # noqa: E402 - the resolvers of the config tree, for processes that resolve it
import dsdr_verl.platform.cpu  # noqa: E402
import dsdr_verl.trainer.registered  # noqa: E402, F401
from dsdr_verl.platform import rendezvous  # noqa: E402
from dsdr_verl.trainer import timers  # noqa: E402

rendezvous.install()
timers.install()
