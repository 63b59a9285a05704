"""The settings of DSDR: paper defaults, and a check that names the key to mend."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

CONFIG_KEY = "algorithm.dsdr"

CHOICES = {
    "score": ("combined", "semantic", "formula"),
    "reference_set": ("all", "correct"),
    "local_estimator": ("sampled", "full"),
}

# What each number must satisfy besides being finite.
_RANGES = {
    "lambda_d": (lambda x: x >= 0, ">= 0"),
    "lambda_l": (lambda x: x >= 0, ">= 0"),
    "tau": (lambda x: x >= 0, ">= 0"),
    "sigma_d": (lambda x: 0 < x <= 1, "in (0, 1]"),
    "std_eps": (lambda x: x > 0, "> 0"),
    "local_ratio_clip": (lambda x: x > 1, "> 1, or null for no clip"),
}


@dataclass(frozen=True)
class DSDROptions:
    """Settings of Eqs. 2-16. The defaults are the paper's; where it is silent, the comment says what was chosen."""

    # λ_d of Eq. 10, the weight of the diversity bonus. Paper: 0.001. 0 leaves the rewards untouched.
    # Under std normalisation it is a switch more than a scale: in an all-correct group the std divides it out again.
    lambda_d: float = 0.001

    # λ_ℓ of Eq. 16, the weight of the local term. Paper: 0.001, and collapse above 0.01. 0 is the paper's "w/o GC".
    lambda_l: float = 0.001

    # τ of Eq. 11. Paper: 5. It multiplies: larger means more weight on the most distinctive correct rollouts;
    # 0 is uniform over the correct ones.
    tau: float = 5.0

    # σ_d of Eq. 10, the upper bound of d̄. The paper gives no value; d never exceeds 1, so 1 clips nothing.
    sigma_d: float = 1.0

    # ε of Eq. 2, added to the std of a group's rewards. The paper gives no value; 1e-6 is verl's. It matters: an
    # all-correct group's std is about λ_d · std(d), some 1e-5 to 1e-4, so an ε of that size damps the global term.
    std_eps: float = 1e-6

    # What d is in Eqs. 10-11: "combined" of Eq. 9 (the paper's), or one of its halves, D_emb ("semantic") or D_eq
    # ("formula", as in DIVER, arXiv 2509.26209).
    score: str = "combined"

    # Against whom Eq. 6 compares a rollout: "all" others of its group (the paper's), or the "correct" others only.
    reference_set: str = "all"

    # Estimator of the entropy of Eq. 12: "sampled" is Eq. 15 (the paper's), "full" sums over the vocabulary, with lower
    # variance and at the price of an entropy pass.
    local_estimator: str = "sampled"

    # Upper bound c of ρ in Eq. 15: where ρ > c the factor is the constant c and no gradient flows through it. None
    # bounds nothing: the paper does not speak of clipping ρ. It matters once a rollout batch is split in mini-batches.
    local_ratio_clip: float | None = None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "DSDROptions":
        """Options from a config section; absent keys keep their defaults.

        Raises:
            ValueError: an unknown key or a bad value. Lists every problem, each with its config key and the fix.
        """
        names = [field.name for field in fields(cls)]
        options = cls(**{name: mapping[name] for name in names if name in mapping})
        unknown = [_unknown_key(str(key), names) for key in mapping if key not in names]
        if found := unknown + options.problems():
            raise ValueError("\n".join([f"{CONFIG_KEY} has {len(found)} problem(s):", *(f"- {p}" for p in found)]))
        return options

    def problems(self) -> list[str]:
        """What is wrong with the values, one message per field with its config key and the fix; empty if well."""
        found = []
        for field in fields(self):
            key, value = f"{CONFIG_KEY}.{field.name}", getattr(self, field.name)
            if choices := CHOICES.get(field.name):
                if value not in choices:
                    allowed = " or ".join(f'"{choice}"' for choice in choices)
                    found.append(f"{key} is {value!r}; set it to {allowed} (default {field.default!r})")
                continue
            if value is None and field.default is None:
                continue
            fits, wanted = _RANGES[field.name]
            if isinstance(value, bool) or not isinstance(value, int | float):
                hint = ", without quotes" if isinstance(value, str) else ""
                found.append(
                    f"{key} is {value!r}, a {type(value).__name__}; set it to a number {wanted}{hint} "
                    f"(default {field.default!r})"
                )
            elif not (math.isfinite(value) and fits(value)):
                found.append(f"{key} is {value!r}; set it to a finite number {wanted} (default {field.default!r})")
        return found


def _unknown_key(key: str, names: list[str]) -> str:
    close = get_close_matches(key, names, n=1)
    fix = f"did you mean {CONFIG_KEY}.{close[0]}?" if close else f"the options are {', '.join(names)}"
    return f"{CONFIG_KEY}.{key} is not an option; {fix}"
