"""Each broken file gives a message with the config key, the file, the rows, and the fix; none raises."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from dsdr_verl.data import schema, tasks

KEY = "data.train_files"
GOOD = tasks.make_arithmetic("train", 3)


def _write(path, rows):
    if path.suffix == ".parquet":
        return tasks.write_parquet(rows, path)
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]")
    return path


@pytest.mark.parametrize("suffix", ["parquet", "json", "jsonl"])
def test_good_files(tmp_path, suffix):
    path = _write(tmp_path / f"a.{suffix}", GOOD)
    assert schema.problems(path, KEY) == schema.problems(str(path), KEY) == []


def test_missing_file(tmp_path):
    (found,) = schema.problems(tmp_path / "no.parquet", KEY)
    assert found.startswith(f"{KEY}: {tmp_path / 'no.parquet'} does not exist: correct the path")


def test_folder_and_unknown_kind(tmp_path):
    assert "is a folder: name a .parquet" in schema.problems(tmp_path, KEY)[0]
    (tmp_path / "a.csv").write_text("x")
    assert "ends in '.csv'" in schema.problems(tmp_path / "a.csv", KEY)[0]


@pytest.mark.parametrize("suffix", ["parquet", "json", "jsonl"])
def test_empty_and_corrupt_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"")
    assert "is empty (0 bytes): write it anew" in schema.problems(path, KEY)[0]
    path.write_bytes(b'PAR1 {"prompt": \xff\xfe oops')
    (found,) = schema.problems(path, KEY)
    assert KEY in found and str(path) in found and f"cannot be read as {suffix}" in found and "write it anew" in found


def test_parquet_cut_short(tmp_path):
    path = _write(tmp_path / "a.parquet", GOOD)
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be read as parquet" in schema.problems(path, KEY)[0]


def test_parquet_with_damaged_pages(tmp_path):
    path = _write(tmp_path / "a.parquet", GOOD * 50)
    data = bytearray(path.read_bytes())
    data[8:120] = b"\xff" * 112
    path.write_bytes(data)
    (found,) = schema.problems(path, KEY)
    assert KEY in found and str(path) in found


def test_no_rows(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(GOOD).slice(0, 0), path)
    assert "has no rows" in schema.problems(path, KEY)[0]
    (tmp_path / "a.json").write_text("[]")
    assert "has no rows" in schema.problems(tmp_path / "a.json", KEY)[0]
    (tmp_path / "a.jsonl").write_text("\n\n")
    assert "has no rows" in schema.problems(tmp_path / "a.jsonl", KEY)[0]


BROKEN = [
    ({"prompt": None}, "`prompt` is missing: add"),
    ({"prompt": []}, "`prompt` is an empty list"),
    ({"prompt": "2 + 2"}, "`prompt` is a str, not a list"),
    ({"prompt": 7}, "`prompt` is a int, not a list"),
    ({"prompt": [{"role": "user", "content": " "}]}, "without a non-empty `role` and `content`"),
    ({"prompt": [{"role": "user"}]}, "without a non-empty `role` and `content`"),
    ({"prompt": ["2 + 2"]}, "without a non-empty `role` and `content`"),
    ({"reward_model": None}, "`reward_model` is missing: add"),
    ({"reward_model": "7"}, "`reward_model` is a str"),
    ({"reward_model": {"style": "rule"}}, "`reward_model.ground_truth` is missing: add"),
    ({"reward_model": {"ground_truth": ""}}, "`reward_model.ground_truth` is empty"),
    ({"reward_model": {"ground_truth": 7}}, "`reward_model.ground_truth` is a int, not text: write it with str()"),
    ({"data_source": ""}, "`data_source` is missing or not text"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_broken_rows(tmp_path, change, message, suffix):
    rows = [GOOD[0], GOOD[1] | change, GOOD[2] | change]
    path = tmp_path / f"a.{suffix}"
    try:
        _write(path, rows)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # parquet cannot mix types in a column
        _write(path, rows[1:])
        rows = rows[1:]
    (found,) = schema.problems(path, KEY)
    numbers = "1, 2; 2 of 3" if len(rows) == 3 else "0, 1; 2 of 2"
    assert found.startswith(f"{KEY}: {path}: ") and message in found and found.endswith(f"(row {numbers})")


def test_rows_that_are_not_objects(tmp_path):
    (tmp_path / "a.json").write_text("[1, null]")
    (found,) = schema.problems(tmp_path / "a.json", KEY)
    assert "the row is not an object: write rows as" in found


def test_another_prompt_key(tmp_path):
    rows = [{**{k: v for k, v in row.items() if k != "prompt"}, "question": row["prompt"]} for row in GOOD]
    for suffix in ("parquet", "jsonl"):
        path = _write(tmp_path / f"a.{suffix}", rows)
        assert schema.problems(path, KEY, prompt_key="question") == []
        (found,) = schema.problems(path, KEY)
        assert "or set data.prompt_key to one of: data_source" in found and "question" in found


def test_columns_absent_altogether(tmp_path):
    path = _write(tmp_path / "a.parquet", [{"x": 1}] * 9)
    found = schema.problems(path, KEY)
    assert len(found) == 3 and all("(row 0, 1, 2, 3, 4, ...; 9 of 9)" in line for line in found)


def test_never_raises():
    for path in (None, 3, "", "\0.parquet", "x" * 5000 + ".json"):
        assert KEY in schema.problems(path, KEY)[0]
