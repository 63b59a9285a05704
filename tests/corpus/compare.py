"""Three judges against the labels of the corpus: ours, math-verify alone, and verl's scorer.

python -m tests.corpus.compare; prints figures and disagreements, and writes them to docs/answers.md. Ends with status 1
if ours disagrees with a label, or another judge does on a row without a "why".
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

from tests.corpus import load

os.environ["VERL_PLATFORM"] = "cpu"  # before verl is imported; its scorer's processes inherit it

PAGE = Path(__file__).resolve().parents[2] / "docs" / "answers.md"
MARK = "<!-- written by python -m tests.corpus.compare: do not edit below -->"
OURS, ALONE, VERL = "ours", "math-verify", "verl"
Pair = tuple[str, str]


def main() -> int:
    rows = load("answers")
    pairs = [(row["response"], row["truth"]) for row in rows]
    credits = {OURS: ours(pairs), ALONE: math_verify_alone(pairs), VERL: verl_scorer(pairs)}
    text = "\n".join([*figures(rows, credits), "", *hedging(), "", *disagreements(rows, credits)]) + "\n"
    print(text)
    PAGE.write_text(PAGE.read_text(encoding="utf-8").split(MARK)[0] + f"{MARK}\n\n{text}", encoding="utf-8")

    wrong = [row for row, credit in zip(rows, credits[OURS], strict=True) if credit != row["correct"]]
    failures = [f"ours: {row}" for row in wrong if "ours" not in row]
    for i, row in enumerate(rows):
        others = [judge for judge in (ALONE, VERL) if credits[judge][i] != row["correct"]]
        if others and "why" not in row:
            failures.append(f'no "why" for {", ".join(others)}: {row}')
        if not others and "why" in row:
            print(f"note: nobody disagrees any more: {row}")
    print(*failures, f"{len(failures)} failure(s)", sep="\n")
    return 1 if failures else 0


def ours(pairs: list[Pair], strict: bool = False) -> list[bool]:
    from dsdr_verl.scoring.options import VerifierOptions
    from dsdr_verl.scoring.verifier import Verdict, Verifier

    verifier = Verifier(VerifierOptions(strict=strict))
    try:
        return [verdict is Verdict.correct for verdict in verifier.verify_batch(pairs)]
    finally:
        verifier.close()


def math_verify_alone(pairs: list[Pair]) -> list[bool]:
    """Its default settings, on this thread, as its time limit wants; the truth goes in as its readme shows, in $…$."""
    from math_verify import parse, verify

    logging.disable(logging.ERROR)
    return [bool(verify(parse(f"${final_answer(truth)}$"), parse(response))) for response, truth in pairs]


def verl_scorer(pairs: list[Pair]) -> list[bool]:
    """What verl runs without a reward function of one's own for the MATH-like data sets."""
    from verl.utils.reward_score.math_verify import compute_score

    # Its first calls may score 0 on a slow machine: importing sympy counts towards math-verify's time limit.
    for _ in range(20):
        compute_score("$1+x$", "x+1")
    return [compute_score(response, final_answer(truth)) == 1 for response, truth in pairs]


def final_answer(truth: str) -> str:
    """The answer of a worked solution: its last box's content or what follows ####. Neither judge looks for it."""
    if (start := truth.rfind("\\boxed{")) >= 0:
        start += len("\\boxed{")
        depth = 1
        for end in range(start, len(truth)):
            depth += {"{": 1, "}": -1}.get(truth[end], 0)
            if depth == 0:
                return truth[start:end]
    return truth.rsplit("####", 1)[-1].strip()


def figures(rows: list[dict], credits: dict[str, list[bool]]) -> list[str]:
    """Two tables: agreement with false positives and negatives, and agreement by kind."""
    labels = [row["correct"] for row in rows]
    lines = [
        "## Agreement with the labels",
        "",
        f"{len(rows)} rows, {sum(labels)} of them correct. `python -m tests.corpus.compare` with "
        + ", ".join(f"{name} {version(name)}" for name in ("math-verify", "latex2sympy2_extended", "sympy", "verl"))
        + ".",
        "",
        "| judge | agrees | share | credits a wrong answer | refuses a right one |",
        "|---|---:|---:|---:|---:|",
    ]
    for judge, credit in credits.items():
        errors = [c for c, label in zip(credit, labels, strict=True) if c != label]
        agrees = len(rows) - len(errors)
        lines.append(
            f"| {judge} | {agrees} | {100 * agrees / len(rows):.1f} % | {sum(errors)} | {len(errors) - sum(errors)} |"
        )
    lines += ["", "Disagreements by kind, as wrongly credited + wrongly refused:", ""]
    lines += [f"| kind | rows | {' | '.join(credits)} |", "|---|---:|" + "---:|" * len(credits)]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [i for i, row in enumerate(rows) if row["kind"] == kind]
        cells = []
        for credit in credits.values():
            credited = sum(credit[i] and not labels[i] for i in of_kind)
            refused = sum(labels[i] and not credit[i] for i in of_kind)
            cells.append(f"{credited} + {refused}" if credited or refused else "0")
        lines.append(f"| {kind} | {len(of_kind)} | {' | '.join(cells)} |")
    return lines


def hedging() -> list[str]:
    """How many tricks each judge credits, and how many honest answers."""
    tricks, honest = ([(row["response"], row["truth"]) for row in load(name)] for name in ("tricks", "honest"))
    lines = [
        "## Hedging",
        "",
        "Responses that deserve nothing if `scoring.verifier.strict` is on (`tricks.jsonl`), and honest ones that must "
        "keep their credit (`honest.jsonl`).",
        "",
        f"| judge | tricks credited, of {len(tricks)} | honest credited, of {len(honest)} |",
        "|---|---:|---:|",
    ]
    judges = {
        f"{OURS}, strict": lambda p: ours(p, strict=True),
        OURS: ours,
        ALONE: math_verify_alone,
        VERL: verl_scorer,
    }
    return lines + [f"| {name} | {sum(judge(tricks))} | {sum(judge(honest))} |" for name, judge in judges.items()]


def disagreements(rows: list[dict], credits: dict[str, list[bool]]) -> list[str]:
    """Every row that a judge sees differently from its label, by cause."""
    groups: dict[str, list[str]] = defaultdict(list)
    for i, row in enumerate(rows):
        others = [judge for judge in (ALONE, VERL) if credits[judge][i] != row["correct"]]
        line = f"`{short(row['response'])}` for `{short(row['truth'])}`"
        verb = "refused by" if row["correct"] else "credited by"
        if others:
            groups[row.get("why", "not explained yet")].append(f"- {line}: {verb} {' and '.join(others)}")
        if credits[OURS][i] != row["correct"]:
            groups["ours: " + row.get("ours", "not mended yet")].append(f"- {line}: {verb} {OURS}")
    lines = ["## Disagreements by cause"]
    for why, found in sorted(groups.items(), key=lambda group: -len(group[1])):
        lines += ["", f"### {why} ({len(found)})", "", *found]
    return lines


def short(text: str, limit: int = 90) -> str:
    """One line of it, the end if it is long: that is where answers stand."""
    text = re.sub(r"\s+", " ", text).replace("`", "'").strip() or " "
    return text if len(text) <= limit else "…" + text[1 - limit :]


if __name__ == "__main__":
    sys.exit(main())
