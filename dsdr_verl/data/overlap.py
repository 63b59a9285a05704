"""`python -m dsdr_verl.data.overlap TRAIN EVAL...`: evaluation problems that the training file has, or nearly has."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from dsdr_verl.data import schema
from dsdr_verl.data.tables import BrokenFile, Faults, read_rows

DESCRIPTION = """\
Compare every evaluation problem with every training problem by the Jaccard similarity of their word n-grams, exactly
(no hashing, no sampling). 1.00 is the same problem but for case and white space; a number changed in a problem of 60
words leaves about 0.84 (docs/data.md). Both files are in the format that training reads."""

EPILOG = """
example:  python -m dsdr_verl.data.overlap train.parquet math_500.parquet aime_2024.parquet
exit:     0 no overlap, 1 overlap, 2 bad input
"""
_WORD = re.compile(r"\\?\w+|[^\w\s]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True)
class Match:
    """An evaluation problem and the training problem nearest to it: rows from 0, similarity in (0, 1]."""

    eval_row: int
    train_row: int
    similarity: float


class Index:
    """The n-grams of a list of problems, and who has each."""

    def __init__(self, texts: Sequence[str], n: int):
        self.n = n
        self.sizes: list[int] = []
        self.rows_of: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row, text in enumerate(texts):
            grams = ngrams(text, n)
            self.sizes.append(len(grams))
            for gram in grams:
                self.rows_of[gram].append(row)

    def nearest(self, text: str) -> tuple[int, float] | None:
        """The row of highest Jaccard similarity |A ∩ B| / |A ∪ B|, and that; None if it is 0 everywhere."""
        grams = ngrams(text, self.n)
        shared: Counter[int] = Counter()
        for gram in grams:
            shared.update(self.rows_of.get(gram, ()))
        scored = ((count / (len(grams) + self.sizes[row] - count), -row) for row, count in shared.items())
        similarity, row = max(scored, default=(0.0, 0))
        return (-row, similarity) if similarity else None


def ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    """The runs of ``n`` words or signs, in lower case; the whole text if it is shorter.

    A character beyond ASCII is a word of its own, as in Chinese.
    """
    words = _WORD.findall(_NOT_ASCII.sub(r" \g<0> ", text.lower()))
    return {tuple(words[start : start + n]) for start in range(max(1, len(words) - n + 1))} if words else set()


def overlaps(
    train: Sequence[str],
    evaluation: Sequence[str],
    n: int = 5,
    threshold: float = 0.5,
    watch: Callable[[Sequence[str]], Iterator[str]] = iter,
) -> list[Match]:
    """The evaluation problems whose nearest training problem reaches ``threshold``, the most similar first."""
    index = Index(train, n)
    found = [Match(row, *nearest) for row, text in enumerate(watch(evaluation)) if (nearest := index.nearest(text))]
    return sorted((m for m in found if m.similarity >= threshold), key=lambda m: (-m.similarity, m.eval_row))


def read_questions(path: Path) -> list[str]:
    """The problems of a file in verl's format: ``extra_info.question``, else the last message of the user.

    Raises:
        BrokenFile: the file is not in that format; lists what is wrong.
    """
    if problems := schema.problems(path, "file"):
        raise BrokenFile("\n".join(problems))
    rows = [row for _, row in read_rows(path, Faults(path))]
    return [_question(row) for row in rows]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_args(arguments)
    try:
        if args.ngram < 1 or not 0 < args.threshold <= 1:
            raise ValueError("--ngram must be at least 1, and --threshold above 0 and at most 1")
        train, *evaluations = [read_questions(path) for path in (args.train, *args.evaluations)]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 110)
    summary = Table("evaluation file", "problems", "the same", f"at least {args.threshold:g}", "share")
    matches = []
    for path, questions in zip(args.evaluations, evaluations, strict=True):
        found = overlaps(train, questions, args.ngram, args.threshold, lambda texts, path=path: _bar(texts, path.name))
        same = sum(match.similarity == 1 for match in found)
        counts = [str(len(questions)), str(same), str(len(found)), f"{len(found) / len(questions):.1%}"]
        summary.add_row("/".join(path.parts[-2:]), *counts)
        matches += [(path, questions, match) for match in found]
    console.print(f"{args.train}: {len(train)} problems, word {args.ngram}-grams", soft_wrap=True)
    console.print(summary)
    for path, questions, match in matches[: args.show]:
        for lead, file, row, text in (
            (f"{match.similarity:.2f}", path, match.eval_row, questions[match.eval_row]),
            ("    ", args.train, match.train_row, train[match.train_row]),
        ):
            console.print(f"{lead}  {file.name} row {row}: {_short(text)}", soft_wrap=True)
    if len(matches) > args.show:
        console.print(f"... and {len(matches) - args.show} more (--show)")
    return 1 if matches else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dsdr_verl.data.overlap",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("train", type=Path, metavar="TRAIN", help=".parquet, .json or .jsonl")
    parser.add_argument("evaluations", type=Path, nargs="+", metavar="EVAL", help="one or more of the same")
    parser.add_argument("--ngram", type=int, default=5, metavar="N", help="words in an n-gram (default 5)")
    parser.add_argument("--threshold", type=float, default=0.5, metavar="J", help="least similarity (default 0.5)")
    parser.add_argument("--show", type=int, default=10, metavar="K", help="pairs to print (default 10)")
    return parser


def _question(row: dict) -> str:
    extra = row.get("extra_info")
    if isinstance(extra, dict) and isinstance(extra.get("question"), str) and extra["question"].strip():
        return extra["question"]
    contents = [message["content"] for message in row["prompt"] if message["role"] == "user"] or [""]
    last = contents[-1]
    return last if isinstance(last, str) else " ".join(str(part.get("text", "")) for part in last)


def _bar(texts: Sequence[str], name: str) -> Iterator[str]:
    console = Console(stderr=True)
    return iter(track(texts, name, console=console, disable=not console.is_terminal))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


if __name__ == "__main__":
    sys.exit(main())
