"""Trains the tiny profile for hours and tells what grows: `make soak`.

python -m tests.soak [--hours 2] [--out FOLDER]. Samples go to FOLDER/samples.jsonl as they are taken; Ctrl-C ends the
run early and looks at what there is, and --from FOLDER looks again at what a soak has left. Written are soak.md and
soak.png. Ends with 1 if anything grows, the run has failed, or something of it was left behind; else with 2 if there is
too little to tell.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from tests.soak import page, plot
from tests.soak.judge import GROWS, judge
from tests.soak.series import SAMPLES, TooFew, read, series_of
from tests.soak.watch import End, watch

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    arguments = parse()
    # SIGINT too, for a shell has its background jobs ignore it, and so would the run
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = arguments.looked_at or arguments.out
    end = End.read(folder) if arguments.looked_at else watch(folder, 3600 * arguments.hours)
    try:
        series = series_of(read(folder / SAMPLES))
        findings = judge(series)
    except TooFew as error:
        print(f"{folder / SAMPLES}: {error}", file=sys.stderr)
        return 1 if end and end.problems() else 2
    text = page.report(findings, end)
    (folder / "soak.md").write_text(text)
    plot.draw(findings, folder / "soak.png")
    print(f"\n{text}\nwritten to {folder / 'soak.md'}, with {folder / 'soak.png'}", flush=True)
    return 1 if any(finding.verdict == GROWS for finding in findings) or (end and end.problems()) else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=2.0, help="from the first step on")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / f"soak-{time.strftime('%Y%m%d-%H%M%S')}")
    parser.add_argument("--from", dest="looked_at", type=Path, metavar="FOLDER", help="of an earlier soak: no run")
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    if arguments.looked_at and not (arguments.looked_at / SAMPLES).exists():
        parser.error(f"--from {arguments.looked_at}: there is no {SAMPLES}")
    if not arguments.looked_at and (arguments.out / "run").exists():
        parser.error(f"--out {arguments.out} has a run already: name another folder, or look at it with --from")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
