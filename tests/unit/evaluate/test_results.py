"""From rollouts to the numbers of a table, against enumeration where there is something to enumerate."""

from itertools import combinations, permutations

import numpy as np
import pytest

from dsdr_verl.evaluate.results import formula_of, per_problem, semantic_of, summarise, vote_of
from dsdr_verl.evaluate.tables import number, share, summary_markdown, summary_table
from tests.unit.evaluate.conftest import problem, rollout


def test_a_row_a_problem(frame):
    a, b = problem(1), problem(2)
    rows = [rollout(a, i, acc=float(i < 2), answer="7" if i < 2 else "8", tokens=i + 1) for i in range(4)]
    rows += [rollout(b, i, answer=None, verdict="no_answer", truncated=i == 0) for i in range(4)]
    table = per_problem(frame(rows), [b, a, problem(3)], [1, 2, 4]).set_index("problem")
    assert list(table.index) == [b.key, a.key], "problems without samples are left out"
    assert table.loc[a.key, ["n", "correct", "pass@1", "pass@4", "maj@4", "tokens"]].tolist() == [
        4,
        2,
        0.5,
        1,
        0.5,
        2.5,
    ]
    assert table.loc[a.key, "pass@2"] == pytest.approx(1 - 1 / 6)
    assert table.loc[b.key, ["pass@4", "maj@4", "truncated", "verdict/no_answer"]].tolist() == [0, 0, 0.25, 1]
    assert np.isnan(table.loc[b.key, "semantic"]), "no correct solution, no diversity of them"
    assert not [name for name in table if name.startswith("modes")], "nobody counts the modes here"


def test_countdown_has_modes(frame):
    p = problem(1, truth="countdown:24:3,4,6,2")
    found = ["3*4+6*2", "3*4+6*2", "4*6*(3-2)", None]
    rows = [rollout(p, i, acc=float(bool(mode)), mode=mode, answer=mode or "1+1") for i, mode in enumerate(found)]
    (row,) = per_problem(frame([*rows, rollout(other := problem(2), 0)]), [p, other], [1])[:1].to_dict("records")
    assert (row["modes"], row["modes_known"], row["modes_share"], row["modes@1"]) == (2, 10, 0.2, 0.75)
    table = per_problem(frame(rows), [p], [1, 4])
    assert table["modes@4"].tolist() == [2], "all four draws hold both"
    assert table["maj@4"].tolist() == [1], "votes go to modes, and the first has two of four"


def test_votes_by_value():
    assert vote_of(r"\frac{1}{2}") == vote_of("0.5") == vote_of("1/2") == vote_of("50\\%")
    assert vote_of(r"$1{,}000$") != vote_of("1")
    assert vote_of(r"2\sqrt{3}") == vote_of(r"\sqrt{12}") != vote_of(r"\sqrt{3}")
    assert vote_of(" x + 1 ") == vote_of("x+1") and vote_of(None) is None
    assert vote_of("9" * 100_000) == "9" * 100_000


def d_eq(formulas: list[set[int]]) -> float:
    """Eq. 8, averaged over a group, as it is written."""
    shares = []
    for i, own in enumerate(formulas):
        others = set().union(*(s for j, s in enumerate(formulas) if j != i))
        shares.append(len(own - others) / len(own) if own else 0.0)
    return float(np.mean(shares))


def test_formula_diversity_is_eq_8_over_all_pairs():
    rng = np.random.default_rng(0)
    sets = [set(rng.integers(0, 8, size).tolist()) for size in (0, 1, 3, 5, 5, 7)]
    pairs = [d_eq([a, b]) for a, b in combinations(sets, 2)]
    assert formula_of([np.array(sorted(s), np.int64) for s in sets]) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_semantic_diversity_is_the_mean_distance_of_pairs():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(6, 16))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    pairs = [(1 - a @ b) / 2 for a, b in permutations(z, 2)]
    assert semantic_of(list(z.astype(np.float32))) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_diversity_takes_two():
    assert np.isnan(formula_of([np.array([1])])) and np.isnan(semantic_of([np.ones(4)]))


def test_means_by_source(frame):
    problems = [problem(i, source="easy") for i in range(20)] + [problem(i, source="hard") for i in range(10)]
    rows = [
        rollout(p, i, acc=float(p.source == "easy" and (n + i) % 2), tokens=10 * (i + 1), formula_ids=[n, i])
        for n, p in enumerate(problems)
        for i in range(4)
    ]
    frame = frame(rows)
    table = per_problem(frame, problems, [1, 4])
    summary = summarise(table, frame, max_tokens=40, level=0.9)
    easy, hard = summary["easy"], summary["hard"]
    assert (easy["problems"], easy["samples"], easy["pass@1"]["estimate"]) == (20, 80, 0.5)
    assert hard["pass@4"]["estimate"] == 0 and hard["pass@4"]["high"] == pytest.approx(1 - 0.1 ** (1 / 10))
    assert hard["semantic"] is None and easy["semantic"]["n_problems"] == 20
    assert easy["token_quantiles"]["1"] == 40 and easy["tokens"]["estimate"] == 25
    assert easy["pass@1"]["level"] == 0.9

    shown = summary_table(summary, 4, 0.9)
    assert [column.header for column in shown.columns][1:] and len(shown.columns) == 3
    heads = list(shown.columns[0].cells)
    assert heads[:3] == ["problems, samples of each", "Avg@4 = pass@1", "pass@4"] and "maj@4" in heads
    cells = dict(zip(heads, shown.columns[2].cells, strict=True))
    assert cells["semantic diversity of correct"] == "–" and cells["pass@4"] == "0.0% [0.0, 20.6]"
    lines = summary_markdown(summary, 4, 0.9).splitlines()
    assert lines[:2] == ["| 90% intervals over problems | easy | hard |", "| --- | --: | --: |"]
    assert len(lines) == 2 + len(heads) and "| 0.0% [0.0, 20.6] |" in lines[2 + heads.index("pass@4")]


def test_cells():
    estimate = {"estimate": 0.1234, "low": 0.1, "high": 0.2}
    assert share(estimate) == "12.3% [10.0, 20.0]" and number(estimate) == "0.123 [0.100, 0.200]"
    assert number({"estimate": 123.4, "low": 1, "high": 200}) == "123.4 [1.0, 200.0]"
