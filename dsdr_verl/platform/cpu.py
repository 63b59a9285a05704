"""The CPU as a verl platform: `VERL_PLATFORM=cpu` selects it, nothing detects it by itself.

A CPU-only Ray actor on a GPU cluster (the driver of a run, a reward worker) must stay on verl's CUDA platform, so
`is_platform_available` answers no and the hardware profile `hardware=cpu` says yes through the environment.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import psutil
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry


class CPUDeviceModule:
    """The calls of `torch.cuda` that verl makes, answered for the CPU. Memory in bytes, of this process or machine."""

    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    get_device_name = staticmethod(lambda device=None: "CPU")
    current_device = staticmethod(lambda: "cpu")
    set_device = staticmethod(lambda device: None)
    synchronize = staticmethod(lambda device=None: None)
    empty_cache = staticmethod(lambda: None)
    ipc_collect = staticmethod(lambda: None)
    set_per_process_memory_fraction = staticmethod(lambda fraction, device=None: None)
    manual_seed = staticmethod(torch.manual_seed)
    manual_seed_all = staticmethod(torch.manual_seed)
    get_rng_state = staticmethod(lambda device=None: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=None: torch.set_rng_state(state))

    @staticmethod
    def memory_allocated(device=None) -> int:
        return psutil.Process().memory_info().rss

    # The kernel keeps the peak of resident memory, so "reserved" and "allocated" are the same thing here.
    memory_reserved = max_memory_reserved = max_memory_allocated = memory_allocated

    @staticmethod
    def mem_get_info(device=None) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.available, memory.total


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """One logical device a process; collectives over gloo; weights travel through shared memory."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = CPUDeviceModule()

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # see the module's docstring

    def current_device(self) -> str:
        # verl passes this straight to `Tensor.to`, where an index would mean an accelerator.
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"  # what Ray sets for its (here logical) GPU resource

    @contextmanager
    def nvtx_range(self, msg: str):
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"  # logical: `ray.init(num_gpus=N)` on a machine without one

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> Any:
        return None
