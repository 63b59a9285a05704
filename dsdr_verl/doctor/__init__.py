"""Whether this machine can run what is in this repository, and what to do where it cannot.

A check is a function that yields findings: ok, a warning, or a failure with its fix. To add one, write it in the module
of its subject and append it to `CHECKS`. Only `probe` imports verl, vLLM and Ray, in processes of its own. The package
`checks` is about a config, this one about the machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from dsdr_verl.doctor import devices, environment, network, packages, processes, resources
from dsdr_verl.doctor.findings import Asked, Check, Findings, failed

CHECKS: tuple[Check, ...] = (
    packages.python, packages.locked, packages.clashes,
    devices.hardware, devices.cpu, devices.compiler, devices.gpus,
    resources.memory, resources.shared_memory, resources.open_files, resources.disk,
    network.ports, network.ray_address, network.hub,
    environment.plugin_filter, environment.platform, environment.secrets,
)  # fmt: skip

WITH_RAY: tuple[Check, ...] = (processes.plugin,)


def examine(asked: Asked, checks: Iterable[Check]) -> Findings:
    """The findings of `checks` as they come. A check that raises is a failure with its error, never the end."""
    for check in checks:
        try:
            yield from check(asked)
        except Exception as error:
            name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
            what = f"the check itself raised {type(error).__name__}: {error}"
            yield failed(name, what, "report it as a bug of dsdr-verl, with this line")
