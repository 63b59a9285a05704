"""The whole path under fuzz: `Scorer.score` with its processes, in a working directory of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import psutil

from dsdr_verl.scoring.embedder import Embedder
from dsdr_verl.scoring.options import EmbeddingOptions, FormulaOptions, ScoringOptions, VerifierOptions
from dsdr_verl.scoring.scorer import RolloutScore, Scorer
from dsdr_verl.scoring.verifier import Verdict
from tests.fuzz import text
from tests.fuzz.generate import Item

MEMORY_MB = 1024  # that a verifier's process may take on top
HANG = 60.0  # seconds after which an item is given up
EMBEDDED = 4000  # characters of a text that are embedded: a megabyte would take a minute
SLACK = 1.0  # seconds past the limit that an item may take
MIB = 2**20


@dataclass(frozen=True)
class Settings:
    limit: float = 1.0
    workers: int = 2  # and items in flight, so that no item waits for its turn
    embed_every: int = 10  # the real encoder sees one text in so many; the others get zeros
    notion: str = "normalized"


@dataclass
class Report:
    items: int = 0
    seconds: float = 0.0
    verdicts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds of an item, less what its clock leaves out
    embedded: int = 0
    failures: list[tuple[Item | None, str]] = field(default_factory=list)
    # items so far, MiB of this process, MiB of its largest child
    memory: list[tuple[int, float, float]] = field(default_factory=list)

    def parent_slope(self) -> float:
        """MiB per 10,000 items that this process grew by, over the second half, by least squares."""
        half = [(n, parent) for n, parent, _ in self.memory if n >= self.items / 2]
        counts = {n for n, _ in half}
        return float(np.polyfit(*zip(*half, strict=True), 1)[0]) * 10_000 if len(counts) > 2 else 0.0

    def peaks(self) -> tuple[float, float]:
        return max(p for _, p, _ in self.memory), max(c for _, _, c in self.memory)


@dataclass
class Aside:
    """What an item's clock leaves out, for it holds up every item under way: the encoder, the checks of the functions
    of text (which run on the event loop), and a few microseconds for each character being scored.
    """

    seconds: float = 0.0
    characters: int = 0  # of the items under way

    @contextlib.contextmanager
    def clock(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds += time.monotonic() - start


class SampledEmbedder:
    """The real encoder for a share of the texts, told by their own bytes; zeros for the others."""

    def __init__(self, embedder: Embedder, every: int, aside: Aside):
        self.embedder, self.every, self.aside = embedder, every, aside
        self.embedded = 0

    def encode(self, texts: list[str]) -> np.ndarray:
        rows = np.zeros((len(texts), self.embedder.dimension), dtype=np.float32)
        picked = [i for i, t in enumerate(texts) if crc32(t.encode("utf-8", "surrogatepass")) % self.every == 0]
        if picked:
            with self.aside.clock():
                rows[picked] = self.embedder.encode([texts[i][:EMBEDDED] for i in picked])
        self.embedded += len(picked)
        return rows


def fuzz(items: Iterable[Item], settings: Settings, progress: Callable[[Report], None] = lambda _: None) -> Report:
    """Scores every item; what went wrong is in the report's failures."""
    report = Report()
    before = set(psutil.Process().children(recursive=True))
    start = time.monotonic()
    with scratch_folder() as folder:
        asyncio.run(_score_all(iter(items), settings, report, progress))
        if made := os.listdir(folder):
            report.failures.append((None, f"files were made in the working directory: {made}"))
    report.seconds = time.monotonic() - start
    if left := _left(before):
        report.failures.append((None, f"processes left at the end: {left}"))
    parent, child = report.peaks()
    if child > 2 * MEMORY_MB:
        report.failures.append((None, f"a child took {child:.0f} MiB"))
    if report.items >= 20_000 and report.parent_slope() > 50:
        grown = f"{report.parent_slope():.0f} MiB per 10,000 items"
        report.failures.append((None, f"memory grows by {grown}, to {parent:.0f} MiB"))
    return report


async def _score_all(
    items: Iterator[Item], settings: Settings, report: Report, progress: Callable[[Report], None]
) -> None:
    async with _scorer(settings) as scorer:
        aside = Aside()
        sampled = SampledEmbedder(scorer.embedder, settings.embed_every, aside)
        scorer.embedder = sampled

        async def work() -> None:
            for item in items:
                await _score(scorer, aside, item, settings, report)
                report.items += 1
                report.embedded = sampled.embedded
                progress(report)

        with _memory_watched(report):
            await asyncio.gather(*(work() for _ in range(settings.workers)))


async def _score(scorer: Scorer, aside: Aside, item: Item, settings: Settings, report: Report) -> None:
    with aside.clock():
        report.failures += [(item, problem) for problem in text.problems(item)]
    start, before = time.monotonic(), aside.seconds
    aside.characters += len(item.response)
    long = aside.characters
    try:
        score = await asyncio.wait_for(scorer.score(item.response, item.truth), HANG)
    except asyncio.TimeoutError:
        report.failures.append((item, f"no verdict after {HANG:.0f} s"))
        return
    except Exception as error:
        report.failures.append((item, f"Scorer.score: {type(error).__name__}: {error!s:.200}"))
        return
    finally:
        aside.characters -= len(item.response)
    seconds = time.monotonic() - start - (aside.seconds - before) - text.SLOW_PER_CHARACTER * long
    report.verdicts[score.verdict] += 1
    report.slowest = max(report.slowest, seconds)
    if seconds > settings.limit + SLACK:
        report.failures.append((item, f"took {seconds:.2f} s with a limit of {settings.limit} s: {score.verdict}"))
    report.failures += [(item, problem) for problem in _wrong(score)]


def _wrong(score: RolloutScore) -> Iterator[str]:
    if score.verdict not in {verdict.value for verdict in Verdict} or score.acc != (score.verdict == "correct"):
        yield f"verdict {score.verdict!r} with acc {score.acc}"
    norm = float(np.linalg.norm(score.embedding))
    if not np.isfinite(norm) or (norm > 1e-6 and abs(norm - 1) > 1e-4):
        yield f"an embedding of norm {norm}"
    if score.formula_ids.dtype != np.int64 or len(set(score.formula_ids.tolist())) != len(score.formula_ids):
        yield "formula ids that are no set of int64"


@contextlib.asynccontextmanager
async def _scorer(settings: Settings) -> AsyncIterator[Scorer]:
    options = ScoringOptions(
        verifier=VerifierOptions(workers=settings.workers, timeout=settings.limit, memory_mb=MEMORY_MB),
        embedding=EmbeddingOptions(max_wait_ms=0),
        formulas=FormulaOptions(notion=settings.notion),
    )
    scorer = Scorer(options)
    try:
        await scorer.ready()
        yield scorer
    finally:
        await scorer.close()


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """An empty working directory, in which children start too."""
    home = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="dsdr-fuzz-") as folder:
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(home)


@contextlib.contextmanager
def _memory_watched(report: Report, every: float = 0.5) -> Iterator[None]:
    """Samples resident memory from a thread: what a child takes between two items would go unseen."""
    done = threading.Event()

    def look() -> None:
        me = psutil.Process()
        while True:
            largest = 0
            for child in me.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    largest = max(largest, child.memory_info().rss)
            report.memory.append((report.items, me.memory_info().rss / MIB, largest / MIB))
            if done.wait(every):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _left(before: set[psutil.Process]) -> list[str]:
    """Processes below this one that were not there before, after a moment in which killed ones go."""
    for _ in range(50):
        now = set(psutil.Process().children(recursive=True)) - before
        left = [p for p in now if p.is_running() and "resource_tracker" not in " ".join(p.cmdline())]
        if not left:
            return []
        time.sleep(0.1)
    return [" ".join(p.cmdline())[:80] for p in left]
