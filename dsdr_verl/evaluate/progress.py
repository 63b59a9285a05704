"""How far an evaluation is: a bar on a terminal, elsewhere a line a tenth."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator

from rich.console import Console

from dsdr_verl.progress import progress_bar


@contextlib.contextmanager
def shown(console: Console, what: str, total: int, speed: bool = True) -> Iterator[Callable[[list[dict]], None]]:
    """Yields what to call with every batch of rows that is done.

    Args:
        what: is being done.
        total: rows.
        speed: in tokens; False where none are drawn.
    """
    bar = progress_bar(console)
    counts: Counter[str] = Counter()
    start = time.monotonic()
    done, tenth = 0, 0

    def advance(rows: list[dict]) -> None:
        nonlocal done, tenth
        done += len(rows)
        counts.update(row["verdict"] for row in rows)
        counts["tokens"] += sum(row["tokens"] for row in rows)
        figures = f"correct {counts['correct'] / done:.1%}"
        if speed:
            figures += f"  {counts['tokens'] / (time.monotonic() - start):.0f} tokens/s"
        bar.update(task, advance=len(rows), description=f"{what}  {figures}")
        if not console.is_terminal and 10 * done // total > tenth:
            tenth = 10 * done // total
            console.print(f"{what}: {done} of {total} samples  {figures}", soft_wrap=True)

    with bar:
        task = bar.add_task(what, total=total)
        yield advance
