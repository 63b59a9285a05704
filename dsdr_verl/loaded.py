"""Whether verl has loaded the plug-in. Apart from it, as importing the plug-in registers it."""

from __future__ import annotations

import sys


def require_loaded() -> None:
    """Raises:
    RuntimeError: verl of this process has not loaded `dsdr_verl.plugin`, or does not know what that registers.
    """
    import verl  # noqa: F401 - which loads its plug-ins, and says nothing of those that it did not
    from verl.plugin.platform import PlatformRegistry
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    known = {
        "the plug-in": sys.modules.get("dsdr_verl.plugin"),
        "platform 'cpu'": PlatformRegistry.get("cpu"),
        "advantage estimator 'dsdr'": ADV_ESTIMATOR_REGISTRY.get("dsdr"),
        "policy loss 'dsdr'": POLICY_LOSS_REGISTRY.get("dsdr"),
    }
    if missing := [name for name, found in known.items() if found is None]:
        raise RuntimeError(
            f"verl does not know {', '.join(missing)}: dsdr_verl.plugin was not loaded. Reinstall dsdr-verl in "
            "this environment (pip install -e .) and leave VERL_USE_EXTERNAL_PLUGINS unset or include 'dsdr'."
        )
