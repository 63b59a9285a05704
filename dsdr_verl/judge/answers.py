"""Answers that were paid for once, kept in a file of SQLite: hashes and scores, none of the texts."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from dsdr_verl.judge.prompt import BadAnswer, Scores, read_answer


class Answers:
    """Scores by the key of their question. Several processes may share the file.

    Raises:
        ValueError: the file cannot be made or is none of SQLite's.
    """

    def __init__(self, path: Path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._db.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, scores TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise ValueError(f"--cache {path} cannot be used ({error}): remove the file, or name another") from error

    def get(self, key: str) -> Scores | None:
        found = self._db.execute("SELECT scores FROM answers WHERE key = ?", (key,)).fetchone()
        with contextlib.suppress(BadAnswer):  # somebody else's writing: ask again
            return read_answer(found[0]) if found else None

    def put(self, key: str, scores: Scores) -> None:
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, scores.model_dump_json()))

    def close(self) -> None:
        self._db.close()
