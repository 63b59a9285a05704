"""Check a file of problems before a run starts: what is wrong, under which config key, and how to put it right."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SHAPE = (
    '{"data_source": str, "prompt": [{"role": str, "content": str}], "ability": str, '
    '"reward_model": {"style": "rule", "ground_truth": str}, "extra_info": {"split": str, "index": int}}'
)
_SHOWN = 5  # row numbers named in a message


def problems(path: str | os.PathLike, key_name: str, prompt_key: str = "prompt") -> list[str]:
    """List what is wrong with a parquet, json or jsonl file; an empty list means that verl can train on it.

    ``key_name`` is the config key the file was given under, such as ``data.train_files``. Rows are numbered from 0.
    Never raises, whatever the file holds.
    """
    where = f"{key_name}: {path}"
    try:
        rows = _rows(Path(path).expanduser(), prompt_key)
        return [f"{where}: {fault}" for fault in _check(rows, prompt_key)]
    except _Unreadable as error:
        return [f"{where} {error}"]
    except Exception as error:
        return [f"{where} could not be checked ({_brief(error)}): give the path of a .parquet, .json or .jsonl file"]


class _Unreadable(Exception):
    """The file as a whole cannot be used; the text says why and what to do."""


def _rows(path: Path, prompt_key: str) -> Iterator[Any]:
    """Yield the rows of a file, as far as they matter here."""
    if not path.exists():
        raise _Unreadable("does not exist: correct the path, or write the file with python -m dsdr_verl.data.prepare")
    if path.is_dir():
        raise _Unreadable("is a folder: name a .parquet, .json or .jsonl file in it")
    if path.suffix not in (".parquet", ".json", ".jsonl"):
        raise _Unreadable(f"ends in {path.suffix or 'nothing'!r}: verl reads .parquet, .json and .jsonl; convert it")
    if path.stat().st_size == 0:
        raise _Unreadable("is empty (0 bytes): write it anew")
    count = 0
    try:
        for row in _parquet(path, prompt_key) if path.suffix == ".parquet" else _json(path):
            count += 1
            yield row
    except PermissionError as error:
        raise _Unreadable("cannot be read (permission denied): change its permissions") from error
    except Exception as error:
        kind = path.suffix[1:]
        raise _Unreadable(f"cannot be read as {kind} ({_brief(error)}): it is damaged; write it anew") from error
    if not count:
        raise _Unreadable("has no rows: write at least one problem into it")


def _parquet(path: Path, prompt_key: str) -> Iterator[Any]:
    """Yield rows batch by batch, the columns that are checked with their values and the others as None."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        columns = [name for name in names if name in (prompt_key, "reward_model", "data_source")]
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist() if columns else [{}] * batch.num_rows:
                yield dict.fromkeys(names) | row


def _json(path: Path) -> Iterator[Any]:
    """Yield the rows of one JSON list, or one row a line."""
    text = path.read_text(encoding="utf-8")
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"line {number}: {error.msg}") from error
    else:
        yield from whole if isinstance(whole, list) else [whole]


def _check(rows: Iterable[Any], prompt_key: str) -> list[str]:
    """Give one message for each kind of fault, with the rows that have it."""
    faults: dict[str, list[int]] = {}
    total = 0
    for number, row in enumerate(rows):
        total += 1
        for fault in _faults(row, prompt_key):
            faults.setdefault(fault, []).append(number)
    return [
        f"{fault} (row {', '.join(map(str, numbers[:_SHOWN]))}{', ...' * (len(numbers) > _SHOWN)}; "
        f"{len(numbers)} of {total})"
        for fault, numbers in faults.items()
    ]


def _faults(row: Any, prompt_key: str) -> Iterator[str]:
    """Yield what is wrong with one row, in words that do not depend on the row."""
    if not isinstance(row, Mapping):
        yield f"the row is not an object: write rows as {SHAPE}"
        return
    prompt = row.get(prompt_key)
    key = f"`{prompt_key}`"
    if prompt is None:
        named = (
            "" if prompt_key in row else f", or set data.prompt_key to one of: {', '.join(map(str, row)) or '(none)'}"
        )
        yield f'{key} is missing: add [{{"role": "user", "content": "..."}}]{named}'
    elif isinstance(prompt, str) or not isinstance(prompt, Sequence):
        yield f'{key} is a {type(prompt).__name__}, not a list: write it as [{{"role": "user", "content": ...}}]'
    elif not prompt:
        yield f"{key} is an empty list: give it a message, or drop the row"
    elif not all(isinstance(m, Mapping) and _is_text(m.get("role")) and _is_content(m.get("content")) for m in prompt):
        yield f"{key} has a message without a non-empty `role` and `content`: each is {{role, content}}, both text"
    reward = row.get("reward_model")
    if not isinstance(reward, Mapping):
        what = "missing" if reward is None else f"a {type(reward).__name__}, not an object"
        yield f'`reward_model` is {what}: add {{"style": "rule", "ground_truth": "<answer>"}}'
    elif reward.get("ground_truth") is None:
        yield "`reward_model.ground_truth` is missing: add the right answer as text, or drop the row"
    elif not isinstance(reward["ground_truth"], str):
        yield f"`reward_model.ground_truth` is a {type(reward['ground_truth']).__name__}, not text: write it with str()"
    elif not reward["ground_truth"].strip():
        yield "`reward_model.ground_truth` is empty: add the right answer as text, or drop the row"
    if not _is_text(row.get("data_source")):
        yield "`data_source` is missing or not text: name the source of the problem; metrics are grouped by it"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_content(value: Any) -> bool:
    """Accept text, and the list of parts that multimodal prompts use."""
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, list) and bool(value)


def _brief(error: Exception) -> str:
    """Give the first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
