"""A sample of `make chaos`: what is survived, and what ends a run, at some stages."""

import pytest

from tests.chaos.cell import Cell, outcomes

pytestmark = pytest.mark.e2e
# A run each; all but its last fault are survived.
RUNS = (
    (
        Cell("kill", "verifier", "update"), Cell("stop", "scoring_actor", "generation"),
        Cell("kill", "scoring_actor", "scoring"), Cell("stop", "trainer_rank", "weight_sync"),
    ),
    (Cell("stop", "gcs_server", "log_prob"),),
    (Cell("kill", "driver", "validation"),),
)  # fmt: skip


@pytest.mark.parametrize("cells", RUNS, ids=lambda cells: f"{cells[-1].fault}-{cells[-1].kind}")
def test_what_comes_of_faults(cells, tmp_path):
    found = outcomes(tmp_path, list(cells))
    assert [outcome.cell for outcome in found] == list(cells)
    assert not [(str(outcome.cell), outcome.wrong, outcome.said) for outcome in found if outcome.wrong]
    assert [outcome.what for outcome in found] == ["goes on"] * (len(cells) - 1) + ["ends"]
    if cells[-1].kind != "driver":
        assert "of step" in found[-1].said
