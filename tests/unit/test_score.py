import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from dsdr_verl import score as command
from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.algorithm.scores import score_groups
from dsdr_verl.rollout_files import read_rollouts
from dsdr_verl.rollouts import COLUMNS, GROUP_COLUMNS
from dsdr_verl.score import main, score_rollouts, summarise
from dsdr_verl.scoring.options import EmbeddingOptions, ScoringOptions, VerifierOptions
from dsdr_verl.scoring.scorer import Scorer
from tests.e2e.processes import eventually
from tests.unit.algorithm import reference

TRUTHS = {"p1": "10", "p2": r"\sqrt{2}", "p3": "56"}
TEXTS = (
    r"By the formula $\binom{n}{k}$ it is \boxed{%s}.",
    r"Let $a+b=c$ and $x^2=y$, so the answer is \boxed{%s}",
    r"With $y=x^2$, and $n>3$, we get \boxed{%s}",
    "I am not sure.",
    r"First all cases, one by one 😀. Then \boxed{%s}",
    r"Then \boxed{%s}, half a pair: " + "\ud83d",
    "",
)
NUMBERS = ("acc", "n_formulas", "reward", *GROUP_COLUMNS, "advantage")


def make_rows():
    """p1 mixed, p2 all wrong but for one that takes algebra, p3 mostly right; 21 rows, groups interleaved."""
    rows = []
    for i, text in enumerate(TEXTS):
        for uid, truth in TRUTHS.items():
            right = {"p1": i % 2 == 0, "p2": False, "p3": i != 1}[uid]
            answer = "2^{1/2}" if uid == "p2" and i == 2 else truth if right else "3"
            response = text % answer if "%s" in text else text
            rows.append({"uid": uid, "response": response, "ground_truth": truth, "i": i, "meta": {"seed": [i]}})
    return rows


ROWS = make_rows()


@pytest.fixture(scope="module")
def scorer():
    scorer = Scorer(ScoringOptions(verifier=VerifierOptions(timeout=5.0), embedding=EmbeddingOptions(max_wait_ms=2)))
    yield scorer
    asyncio.run(scorer.close())


@pytest.fixture(scope="module")
def table(scorer):
    return score_rollouts(ROWS, scorer)


def assert_same_scores(a, b, atol=1e-6):
    """But for A, which divides rounding of 1e-10 in r̃ by stds of 1e-4."""
    assert a["verdict"].tolist() == b["verdict"].tolist()
    for name in NUMBERS:
        np.testing.assert_allclose(
            a[name].to_numpy(float), b[name].to_numpy(float), atol=1e-3 if name == "advantage" else atol, err_msg=name
        )


# ------------------------------------------------------------------------------------------------ the numbers


def test_against_the_reference(scorer):
    """The float64 reference of the equations, on scores taken one by one."""
    dsdr = DSDROptions(lambda_d=0.05, tau=3.0, sigma_d=0.4, std_eps=1e-3)
    rewards = [0.25 * (i % 3) for i in range(len(ROWS))]
    table = score_rollouts([row | {"reward": r} for row, r in zip(ROWS, rewards, strict=True)], scorer, dsdr)

    async def one_by_one():
        return [await scorer.score(row["response"], row["ground_truth"]) for row in ROWS]

    scores = asyncio.run(one_by_one())
    group, valid = [row["uid"] for row in ROWS], [True] * len(ROWS)
    correct = [score.verdict == "correct" for score in scores]
    semantic = reference.semantic_diversity([s.embedding for s in scores], group, valid, correct, "all")
    formula = reference.formula_diversity([set(s.formula_ids.tolist()) for s in scores], group, valid)
    diversity = reference.clipped_diversity(semantic, formula, dsdr.sigma_d)
    shaped = reference.shaped_reward(rewards, diversity, correct, dsdr.lambda_d)
    expected = {
        "acc": correct,
        "n_formulas": [s.n_formulas for s in scores],
        "semantic": semantic,
        "formula": formula,
        "diversity": diversity,
        "bonus": shaped - rewards,
        "shaped_reward": shaped,
        "weight": reference.coupling_weights(diversity, correct, group, dsdr.tau),
        "advantage": reference.advantages(shaped, group, valid, True, dsdr.std_eps),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(table[name].to_numpy(float), np.array(values, float), atol=2e-6, err_msg=name)
    assert table["reward"].tolist() == rewards
    assert table["formula_ids"].tolist() == [s.formula_ids.tolist() for s in scores]
    dr_grpo = score_rollouts(ROWS, scorer, dsdr, norm_by_std=False)
    shaped = reference.shaped_reward(dr_grpo["acc"], diversity, correct, dsdr.lambda_d)
    expected = reference.advantages(shaped, group, valid, False, dsdr.std_eps)
    np.testing.assert_allclose(dr_grpo["advantage"], expected, atol=1e-6)


def test_group_by_group(scorer, table):
    """A direct call of `score_groups` for each group gives the same."""
    for uid in TRUTHS:
        part = table[table["uid"] == uid]
        scores = score_rollouts([row for row in ROWS if row["uid"] == uid], scorer)
        assert_same_scores(part, scores)
        B = len(part)
        ids = [np.array(ids, np.int64) for ids in part["formula_ids"]]

        async def embeddings(part=part):
            return [(await scorer.score(response, "1")).embedding for response in part["response"]]

        direct = score_groups(
            torch.tensor(part["acc"].to_numpy()),
            torch.tensor(part["acc"].to_numpy()) > 0,
            torch.tensor(np.stack(asyncio.run(embeddings()))),
            torch.repeat_interleave(torch.tensor([len(x) for x in ids])),
            torch.tensor(np.concatenate(ids)),
            torch.zeros(B, dtype=torch.long),
            torch.ones(B, dtype=torch.bool),
            DSDROptions(),
        )
        for name in ("semantic", "formula", "diversity", "bonus", "weight"):
            np.testing.assert_allclose(part[name], getattr(direct, name).numpy(), atol=1e-6, err_msg=name)


def test_verdicts(table):
    assert set(table["verdict"]) == {"correct", "incorrect", "no_answer"}
    by_hand = [row["uid"] == "p2" and row["i"] == 2 for row in ROWS]
    assert table["verdict"][by_hand].tolist() == ["correct"]  # by algebra
    assert table.groupby("uid")["weight"].sum().to_numpy() == pytest.approx(1, abs=1e-6)


def test_order_does_not_matter(scorer, table):
    order = np.random.default_rng(0).permutation(len(ROWS))
    shuffled = score_rollouts([ROWS[i] for i in order], scorer)
    assert shuffled["i"].tolist() == [ROWS[i]["i"] for i in order]
    assert shuffled["group"].tolist() == table["group"].to_numpy()[order].tolist()
    assert_same_scores(shuffled, table.iloc[order])


def test_columns_and_index_are_kept(scorer, table):
    frame = pd.DataFrame(ROWS, dtype=object, index=pd.Index([f"r{i}" for i in range(len(ROWS))], name="name"))
    scored = score_rollouts(frame, scorer)
    pd.testing.assert_frame_equal(scored[frame.columns], frame)
    assert [*frame.columns, "verdict", "acc"] == [*scored.columns][: len(frame.columns) + 2]
    assert_same_scores(scored, table)


def test_other_names_of_the_inputs(scorer, table):
    """verl's data rows, grouped by prompt; and its rollout dumps, whose uid is another for every rollout."""
    data = [
        {
            "prompt": [{"role": "user", "content": row["uid"]}],
            "response": row["response"],
            "reward_model": {"style": "rule", "ground_truth": row["ground_truth"]},
        }
        for row in ROWS
    ]
    dump = [
        {"input": row["uid"], "output": row["response"], "gts": row["ground_truth"], "uid": f"{row['uid']}_{row['i']}"}
        for row in ROWS
    ]
    assert_same_scores(score_rollouts(data, scorer), table)
    assert_same_scores(score_rollouts(dump, scorer, group_by="input"), table)
    with pytest.raises(ValueError, match=r"`uid` differs in every row.*--group-by.*input, output, gts, uid"):
        score_rollouts(dump, scorer)


def test_inside_a_running_loop(scorer, table):
    async def cell():
        return score_rollouts(ROWS, scorer)

    assert_same_scores(asyncio.run(cell()), table)


def test_progress_and_summary(scorer, table):
    seen = []
    score_rollouts(ROWS, scorer, progress=lambda score: seen.append(score.verdict))
    assert sorted(seen) == sorted(table["verdict"])
    metrics = summarise(table)
    assert metrics["dsdr/pass_rate"] == pytest.approx(table["acc"].mean())
    assert metrics["dsdr/verdict/no_answer"] == pytest.approx((table["verdict"] == "no_answer").mean())
    assert metrics["dsdr/groups/count"] == 3 and metrics["dsdr/groups/mixed"] == 1
    assert metrics["dsdr/semantic/correct"] == pytest.approx(table["semantic"][table["acc"] > 0].mean(), abs=1e-6)


def test_bounded_in_flight():
    """A million rows are not a million tasks."""

    class Slow:
        options = ScoringOptions(embedding=EmbeddingOptions(batch_size=2))
        now = most = 0

        async def ready(self):
            return True

        async def score(self, response, truth):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            if response == "bad":
                raise RuntimeError("out of memory")
            return SCORE

    SCORE = type("Score", (), dict(verdict="correct", acc=1.0, embedding=np.ones(3, np.float32), n_formulas=0,
                                   formula_ids=np.empty(0, np.int64), seconds=0.1))()  # fmt: skip
    rows = [{"response": "r", "ground_truth": "1", "uid": i // 4} for i in range(2000)]
    slow = Slow()
    assert len(score_rollouts(rows, slow)) == 2000 and 8 <= slow.most <= 16
    with pytest.raises(RuntimeError, match="out of memory"):
        score_rollouts([*rows, {"response": "bad", "ground_truth": "1", "uid": 0}], Slow())


# ------------------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"response": None}, "`response` is missing: add it, or drop the row (row 1; 1 of 21)"),
        ({"response": ["a"]}, "`response` is a list, not text: write it with str()"),
        ({"ground_truth": 10}, "`ground_truth` is a int, not text: write it with str() (row 1;"),
        ({"ground_truth": " "}, "`ground_truth` is empty: add the right answer"),
        ({"uid": None}, "`uid` is missing"),
        ({"reward": 1.0}, "`reward` is missing: give every row one, or none"),
        ({"advantage": 0.5}, "`advantage` is a column that scoring writes: rename or drop it"),
    ],
)
def test_bad_rows(change, says):
    rows = [row | change if i == 1 else row for i, row in enumerate(ROWS)]
    with pytest.raises(ValueError) as error:
        score_rollouts(rows)
    assert says in str(error.value)


def test_all_problems_at_once():
    rows = [{"response": 1, "reward": "1"}] * 7 + [{"response": "x", "reward": float("inf")}]
    with pytest.raises(ValueError) as error:
        score_rollouts(rows)
    for part in (
        "the rollouts have 4 problem(s)",
        "no column `ground_truth` or `reward_model` or `gts`",
        "no column `uid` or `prompt` or `input`",
        "`response` is a int, not text: write it with str() (row 0, 1, 2, 3, 4, …; 7 of 8)",
        "`reward` is not a finite number",
    ):
        assert part in str(error.value)


def test_missing_nested_truth():
    with pytest.raises(ValueError, match=r"`reward_model.ground_truth` is missing: .* \(row 0, 1; 2 of 2\)"):
        score_rollouts([{"uid": "a", "response": "x", "reward_model": {"style": "rule"}}] * 2)


GOOD_LINE = json.dumps(ROWS[0])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.jsonl", None, "gone.jsonl does not exist: correct the path"),
        ("rows.csv", b"a,b", "ends in none of .jsonl, .jsonl.gz, .parquet: convert it"),
        ("empty.jsonl", b"", "empty.jsonl: there are no rollouts: give a row each"),
        ("bad.jsonl", f"{GOOD_LINE}\n\n{{'uid': 1}}\n".encode(), "bad.jsonl cannot be read: line 3 is not JSON"),
        ("list.jsonl", f"{GOOD_LINE}\n[1]\n".encode(), "line 2 is a list, not an object"),
        ("latin.jsonl", b'{"response": "\xe9"}', "line 1 is not JSON"),
        ("bad.jsonl.gz", b"not gzip", "bad.jsonl.gz cannot be read"),
        ("cut.jsonl.gz", gzip.compress(GOOD_LINE.encode())[:-9], "cut.jsonl.gz cannot be read"),
        ("bad.parquet", b"not parquet", "bad.parquet cannot be read"),
        ("row.jsonl", b'{"response": "x"}\n{"uid": 1}\n', "row.jsonl: the rollouts have"),
        ("row.jsonl", b'{"response": "x"}\n\n{"uid": 1}\n', "`response` is missing: add it, or drop the row (line 3;"),
    ],
)
def test_bad_files(tmp_path, capsys, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert main([str(path)]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("*scored*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scoring.verifier.timeot=2"], "did you mean scoring.verifier.timeout?"),
        (["algorithm.dsdr.tau=-1"], "algorithm.dsdr.tau is -1"),
        (["algorithm=dsdr"], "algorithm: no option of this command"),
        (["scoring=fast"], "scoring: no option of this command"),
        (["algorithm.dsdr=paper"], "algorithm.dsdr: no option of this command"),
        (["trainer.nnodes=2", "algorithm.gamma=1"], "trainer, algorithm.gamma: no option of this command"),
        (["algorithm.norm_adv_by_std_in_grpo=maybe"], "set it to true or false"),
        (["scoring.actors=[1"], "cannot be read as key=value"),
        (["--out", "x.parquet"], "must end in .jsonl"),
        (["--out", "nowhere/x.jsonl"], "its folder is missing"),
        (["--out", "there.jsonl"], "there.jsonl is there already; name another with --out, or overwrite it with"),
        (["--group-by", "promt"], "no column `promt`"),
    ],
)
def test_bad_arguments(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    for name in ("rows.jsonl", "there.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert main(["rows.jsonl", *arguments]) == 2
    assert says in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ the command


@pytest.mark.e2e
def test_command_on_both_formats(tmp_path, scorer, table):
    """End to end in a process of its own, with the packaged encoder; and both formats give the same."""
    jsonl, parquet = tmp_path / "rollouts.jsonl", tmp_path / "rollouts.parquet"
    rows = [row | {"big": 2**70, "none": None} | ({"note": "é"} if row["i"] == 0 else {}) for row in ROWS]
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = subprocess.run(
        [sys.executable, "-m", "dsdr_verl.score", jsonl, "algorithm.dsdr.lambda_d=0.01", "scoring.verifier.timeout=9"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    for text in ("rollouts", "3, of 7 to 7 rollouts", "pass rate", "written to", "rollouts.scored.jsonl"):
        assert text in ended.stdout
    written = [json.loads(line) for line in (tmp_path / "rollouts.scored.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in given} for row, given in zip(written, rows, strict=True)] == rows
    assert ["note" in row for row in written] == ["note" in row for row in rows]
    expected = table.assign(bonus=table["bonus"] * 10)
    expected["shaped_reward"] = expected["reward"] + expected["bonus"]
    scored = read_rollouts(tmp_path / "rollouts.scored.jsonl")
    for name in ("acc", "semantic", "formula", "diversity", "bonus", "shaped_reward", "weight"):
        np.testing.assert_allclose(scored[name].to_numpy(float), expected[name], atol=1e-6, err_msg=name)

    encodable = [{**row, "response": row["response"].replace("\ud83d", "?")} for row in ROWS]
    pd.DataFrame(encodable).to_parquet(parquet)
    with opened_by_command(scorer):
        assert main([str(parquet), "algorithm.dsdr.lambda_d=0.01"]) == 0
    from_parquet = pd.read_parquet(tmp_path / "rollouts.scored.parquet")
    assert_same_scores(from_parquet, scored)
    assert from_parquet["formula_ids"].map(list).tolist() == scored["formula_ids"].tolist()
    assert from_parquet["meta"].tolist()[3]["seed"].tolist() == [1]


@contextmanager
def opened_by_command(scorer):
    """The command with a scorer that is loaded already."""
    patch = pytest.MonkeyPatch()
    handler = signal.getsignal(signal.SIGTERM)

    @contextmanager
    def loaded(options, on_ray):
        yield scorer

    patch.setattr(command, "_scorer", loaded)
    yield patch
    patch.undo()
    signal.signal(signal.SIGTERM, handler)


def test_gz_and_overwriting(tmp_path, scorer, table, capsys):
    path, out = tmp_path / "rollouts.jsonl.gz", tmp_path / "rollouts.scored.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in ROWS)
    with opened_by_command(scorer):
        assert main([str(path)]) == 0
        assert_same_scores(read_rollouts(out), table)
        assert main([str(path)]) == 2 and "--force" in capsys.readouterr().err
        assert main([str(path), "--force"]) == 0
        plain = tmp_path / "plain.jsonl"
        assert main([str(path), "--out", str(plain)]) == 0
    assert plain.read_bytes() == gzip.decompress(out.read_bytes())
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "plain.jsonl", "rollouts.jsonl.gz", "rollouts.scored.jsonl.gz"
    ]  # fmt: skip


def test_failure_keeps_what_is_done(tmp_path, scorer, capsys):
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    score, seen = scorer.score, []

    async def breaks(response, truth):
        result = await score(response, truth)
        seen.append(truth)
        if truth == TRUTHS["p3"]:
            while len(seen) < 15:
                await asyncio.sleep(0.01)
            raise MemoryError("no room")
        return result

    with opened_by_command(scorer) as patch:
        patch.setattr(scorer, "score", breaks)
        assert main([str(path)]) == 1
    err = capsys.readouterr().err
    assert "MemoryError: no room" in err and "failed after 14 of 21 rollouts; whole groups are kept" in err
    assert read_rollouts(tmp_path / "rollouts.scored.partial.jsonl")["uid"].unique().tolist() == ["p1", "p2"]
    assert not (tmp_path / "rollouts.scored.jsonl").exists()


def test_a_full_disk_costs_no_scores(tmp_path, scorer, table, capsys):
    path, free = tmp_path / "rollouts.jsonl", tmp_path / "free"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / ".rollouts.scored.jsonl.part").symlink_to("/dev/full")
    free.mkdir()
    with opened_by_command(scorer) as patch:
        patch.setattr(tempfile, "tempdir", str(free))
        assert main([str(path)]) == 1
    assert "cannot be written ([Errno 28]" in capsys.readouterr().err
    (kept,) = free.glob("dsdr_scores_*/rollouts.scored.jsonl")
    assert_same_scores(read_rollouts(kept), table)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["free", "rollouts.jsonl"]


HARD = r"\boxed{10^{10^{10}}}"  # hours


@pytest.mark.e2e
def test_interrupt(tmp_path):
    """Ends at once, with its processes; whole groups are kept. SIGTERM is made a SIGINT."""
    path = tmp_path / "rollouts.jsonl"
    rows = [*ROWS[:6], *({"uid": "z", "response": HARD, "ground_truth": "x+5"} for _ in range(4))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    errors = tmp_path / "errors.txt"
    with open(errors, "wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "dsdr_verl.score", path, "scoring.verifier.timeout=300"],
            stderr=stderr, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=os.environ | {"TTY_COMPATIBLE": "1", "COLUMNS": "120"},  # the bar, which tells when six are done
        )  # fmt: skip
    try:
        eventually(lambda: "6/10" in errors.read_text(), 300)
        children = wait_for_a_busy_child(process.pid)
        process.terminate()
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    err = errors.read_text()
    assert process.returncode == 130 and "never retrieved" not in err, err
    assert "interrupted after 6 of 10 rollouts; whole groups are kept" in err and "Traceback" not in err
    assert len(read_rollouts(tmp_path / "rollouts.scored.partial.jsonl")) == 6 and "partial" in out
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def wait_for_a_busy_child(pid, seconds=60):
    """Its descendants, once one of them has computed for long: it is on the hard answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(pid).children(recursive=True)
            if any(child.ppid() != pid and child.cpu_times().user > 1 for child in children):
                return children
        time.sleep(0.2)
    raise AssertionError("no child got busy")


def test_help(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and "algorithm.dsdr.lambda_d=0.01" in shown and "ground_truth" in shown


# ------------------------------------------------------------------------------------------------ the documentation

PAGE = (Path(__file__).parents[2] / "docs" / "score.md").read_text()


def test_documented_example(capsys):
    """It prints what the page says."""
    code, printed = re.search(r"```python\n(.*?)```.*?```text\n(.*?)```", PAGE, re.DOTALL).groups()
    names = {}
    exec(code, names)
    asyncio.run(names["scorer"].close())
    numbers = re.compile(r"\d+\.\d+")
    shown = capsys.readouterr().out
    assert numbers.sub("", shown) == numbers.sub("", printed)
    expected = [float(number) for number in numbers.findall(printed)]
    assert [float(number) for number in numbers.findall(shown)] == pytest.approx(expected, abs=1e-3)


def test_documented_columns():
    added = PAGE.split("## What is added")[1].split("##")[0]
    assert [name for name in (*COLUMNS, "reward") if f"`{name}`" not in added] == []
