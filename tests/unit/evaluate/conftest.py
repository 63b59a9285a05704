"""Problems and finished rollouts, as an evaluation makes them."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from dsdr_verl.evaluate.problems import Problem


def problem(number: int, truth: str = "7", source: str = "set") -> Problem:
    question = f"question {number}"
    return Problem(f"id{number}", source, ({"role": "user", "content": question},), truth, question)


def rollout(of: Problem, sample: int, **values) -> dict:
    """A row of the store; `verdict` follows `acc`."""
    acc = values.get("acc", 0.0)
    return {
        "problem": of.key, "sample": sample, "seed": 10 * sample, "prompt": of.question, "ground_truth": of.truth,
        "response": f"so {sample}", "tokens": 5, "truncated": False, "verdict": "correct" if acc else "incorrect",
        "acc": acc, "answer": None, "mode": None, "formula_ids": [], "embedding": [1.0, 0.0], **values,
    }  # fmt: skip


@pytest.fixture
def frame() -> Callable[[list[dict]], pd.DataFrame]:
    """Rows as `RolloutStore.read` gives them."""

    def make(rows: list[dict]) -> pd.DataFrame:
        table = pd.DataFrame(rows, dtype=object)
        for name, kind in (("sample", int), ("tokens", int), ("acc", float), ("truncated", bool)):
            table[name] = table[name].astype(kind)
        for name, kind in (("formula_ids", np.int64), ("embedding", np.float32)):
            table[name] = [np.array(value, kind) for value in table[name]]
        return table

    return make
