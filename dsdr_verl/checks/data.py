"""The problems: a task that is made here, or the user's own files."""

import math
from pathlib import Path

from omegaconf import DictConfig

from dsdr_verl.checks.reading import TRAIN_BATCH, get, items, whole
from dsdr_verl.checks.wording import Problems, not_among, show
from dsdr_verl.data import schema
from dsdr_verl.data.tasks import TASKS


def files(config: DictConfig) -> Problems:
    task = get(config, "data.task")
    if task is not None:
        yield from not_among("data.task", task, TASKS)
    for key in ("data.train_files", "data.val_files"):
        value = get(config, key)
        if task is not None and value is not None:
            yield f"{key} is {show(value)}, and data.task={task} would replace it; add data.task=null"
        elif task is None and not items(value):
            yield f"{key} is {show(value)}, so it was not given; set it to a file, or choose data.task=arithmetic"
        else:
            for path in map(str, items(value)):
                if "://" not in path:  # else verl fetches it later
                    yield from schema.problems(path, key, prompt_key=get(config, "data.prompt_key", "prompt"))


def enough_rows(config: DictConfig) -> Problems:
    train, most = whole(config, TRAIN_BATCH), whole(config, "data.train_max_samples") or math.inf
    if (task := get(config, "data.task")) is not None:
        source, counts = f"data.task={task}", [TASKS[task].train_size] if task in TASKS else []
    else:
        source, paths = "data.train_files", items(get(config, "data.train_files"))
        counts = [row_count(Path(str(path)).expanduser()) for path in paths]
    if train and counts and None not in counts and (rows := min(sum(counts), most)) < train:
        yield f"{TRAIN_BATCH} is {train}, and {source} has {rows} rows: no step; set it to at most {rows}"


def row_count(path: Path) -> int | None:
    """Rows of a file; None if that cannot be told at once. A broken file is the schema's to report."""
    from pyarrow.parquet import read_metadata

    try:
        if path.suffix == ".jsonl":
            return sum(1 for line in path.read_bytes().splitlines() if line.strip())
        return read_metadata(path).num_rows if path.suffix == ".parquet" else None
    except (OSError, ValueError):
        return None
