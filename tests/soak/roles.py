"""What a process of a run is there for, by its command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

# Ray and vLLM name their processes; a Ray worker's title goes on with the method that it is in.
_TITLE = re.compile(r"(ray|VLLM)::\w+")


def role_of(command: Sequence[str]) -> str:
    """The same word for processes that do the same."""
    line = " ".join(command)
    if found := _TITLE.match(line):
        return found[0]
    for text, role in (
        ("dsdr_verl.main_ppo", "driver"),
        ("dsdr_verl.trainer.traces", "janitor"),
        ("zygote.serve", "verifier"),
        ("multiprocessing.resource_tracker", "resource_tracker"),
        ("multiprocessing.spawn", "multiprocessing.spawn"),
    ):
        if text in line:
            return role
    words = [PurePath(word) for word in command if word and not word.startswith("-")]
    scripts = [path for path in words[1:] if path.suffix == ".py"]
    if scripts:  # agents of Ray: .../dashboard/agent.py, .../runtime_env/agent/main.py
        return "/".join(scripts[0].parts[-2:])
    return words[0].name if words else "unknown"
