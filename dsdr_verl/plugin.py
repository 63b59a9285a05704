"""verl imports this module in every process (entry point `verl.plugins`), so imports stay light.

verl logs a failing plug-in at DEBUG level and goes on without it: `require_loaded` is what notices.
"""

from __future__ import annotations

from dsdr_verl.platform import vllm_metadata

# Before anything of verl's own looks for vLLM.
vllm_metadata.install()

import dsdr_verl.conf  # noqa: E402 - the resolvers of the config tree, for processes that resolve it
import dsdr_verl.platform.cpu  # noqa: E402
import dsdr_verl.trainer.registered  # noqa: E402, F401


def require_loaded() -> None:
    """Raises:
    RuntimeError: verl of this process does not know what this module registers.
    """
    from verl.plugin.platform import PlatformRegistry
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    known = {
        "platform 'cpu'": PlatformRegistry.get("cpu"),
        "advantage estimator 'dsdr'": ADV_ESTIMATOR_REGISTRY.get("dsdr"),
        "policy loss 'dsdr'": POLICY_LOSS_REGISTRY.get("dsdr"),
    }
    if missing := [name for name, found in known.items() if found is None]:
        raise RuntimeError(
            f"verl does not know {', '.join(missing)}: dsdr_verl.plugin was not loaded. Reinstall dsdr-verl in "
            "this environment (pip install -e .) and leave VERL_USE_EXTERNAL_PLUGINS unset or include 'dsdr'."
        )
