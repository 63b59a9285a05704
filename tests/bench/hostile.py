"""One answer in a hundred that takes for ever or all memory: what the others lose by it."""

from __future__ import annotations

from random import Random
from statistics import median

from tests.bench.contender import IN_FLIGHT, RIVAL_GIB
from tests.bench.problems import group, problems
from tests.bench.race import Contender, Heat
from tests.bench.report import say, table, target
from tests.unit.scoring.test_verifier import HOSTILE

LIMIT = 1.0
SHARE = 0.01
THROUGHPUT = 0.8
Pairs = list[tuple[str, str]]


def section(rounds: int, outer: float) -> list[str]:
    clean, mixed, hostile = stream()
    times = [_ours(clean, mixed, hostile, turn) for turn in range(rounds)]
    ratio = median(_kept(c, m, own) for c, m, own, _ in times)
    longest = max(m.longest_silence for _, m, _, _ in times)
    left = max(processes for *_, processes in times)
    lost = max(_lost(c, m, hostile) for c, m, _, _ in times)
    lines = ["### Hostile answers", "", _explained(len(mixed), len(hostile), rounds)]
    lines += target("throughput kept", f"at least {THROUGHPUT}", f"{ratio:.2f}", ratio >= THROUGHPUT)
    lines += target(
        "time to a verdict", f"at most limit + 1 s = {LIMIT + 1:.0f} s", f"{longest:.2f} s", longest <= LIMIT + 1
    )
    lines += target("processes left after closing", "none", str(left), left == 0)
    lines += target("ordinary items whose verdict changes", "none", str(lost), lost == 0)
    lines += _one_by_one(*times[-1][1:3], hostile)
    return lines + _rivals(clean, mixed, hostile, outer)


def _explained(items: int, hostile: int, rounds: int) -> str:
    return (
        f"{items} items, {hostile} of them hostile, with a limit of {LIMIT:.0f} s; one worker, all on one core, "
        f"{IN_FLIGHT} items in flight, {rounds} rounds, each in new processes. Throughput kept is the time of the "
        "ordinary items alone over the time of the whole stream, less the limit for each item that timed out and what "
        "the other hostile ones take alone; killing and replacing processes counts against us. The time to a verdict "
        "is the longest time between two verdicts, which with one worker no item can have exceeded."
    )


def stream() -> tuple[Pairs, Pairs, dict[int, str]]:
    """Ordinary items; the same with every hostile answer among them once; where these are, by name."""
    random = Random("hostile")
    count = round(len(HOSTILE) / SHARE) - len(HOSTILE)
    pools = [problems("MATH-500"), problems("GSM8K")]
    clean: Pairs = []
    while len(clean) < count:
        pool = random.choice(pools)
        clean += [(r.response, r.truth) for r in group(random.choice(pool), pool, 8, random)]
    mixed: Pairs = clean[:count]
    for text in HOSTILE.values():
        mixed.insert(random.randrange(len(mixed)), (rf"\boxed{{{text}}}", "x+5"))
    names = {rf"\boxed{{{text}}}": name for name, text in HOSTILE.items()}
    return clean[:count], mixed, {i: names[pair[0]] for i, pair in enumerate(mixed) if pair[0] in names}


def _ours(clean: Pairs, mixed: Pairs, hostile: dict[int, str], turn: int) -> tuple[Heat, Heat, dict[int, float], int]:
    """The ordinary items, the whole stream, the seconds to take off it by hostile item, the processes left."""
    heats, left = {}, 0
    for name, pairs in [("clean", clean), ("mixed", mixed)][:: 1 if turn % 2 else -1]:
        contender = Contender("ours", LIMIT)
        heats[name] = contender.judge(pairs)
        left += contender.close()[1]
    answered = [i for i in hostile if heats["mixed"].verdicts[i].value != "timeout"]
    contender = Contender("ours", LIMIT)  # another, as replies are remembered
    own = dict.fromkeys(hostile, LIMIT) | {i: contender.judge([mixed[i]]).seconds for i in answered}
    left += contender.close()[1]
    kept = _kept(heats["clean"], heats["mixed"], own)
    say(f"hostile, ours: clean {heats['clean'].seconds:.1f} s, mixed {heats['mixed'].seconds:.1f} s, {kept:.2f} kept")
    return heats["clean"], heats["mixed"], own, left


def _kept(clean: Heat, mixed: Heat, own: dict[int, float]) -> float:
    return clean.seconds / max(mixed.seconds - sum(own.values()), 1e-9)


def _lost(clean: Heat, mixed: Heat, hostile: dict[int, str]) -> int:
    """Ordinary items that have no verdict in the mixed stream, or another."""
    ordinary = [i for i in range(len(clean.verdicts) + len(hostile)) if i not in hostile]
    before = [clean.verdicts[k].value if k in clean.verdicts else None for k in range(len(ordinary))]
    after = [mixed.verdicts[i].value if i in mixed.verdicts else None for i in ordinary]
    return sum(a != b for a, b in zip(before, after, strict=True))


def _one_by_one(mixed: Heat, own: dict[int, float], hostile: dict[int, str]) -> list[str]:
    rows = [[name, mixed.verdicts[i].value, f"{own[i]:.2f}"] for i, name in sorted(hostile.items(), key=lambda x: x[1])]
    return table(["hostile item", "verdict", "seconds taken off"], rows)


def _rivals(clean: Pairs, mixed: Pairs, hostile: dict[int, str], outer: float) -> list[str]:
    rows = []
    for name in ("verl", "plain"):
        contender = Contender(name, LIMIT)
        before = contender.judge(clean, outer)
        after = contender.judge(mixed, outer)
        ended, left = contender.close()
        end = f"{after.seconds:.0f} s" if after.finished else f"hung: stopped after {outer:.0f} s"
        shown = f"{len(after.verdicts)} of {len(mixed)}"
        lost = _lost(before, after, hostile)
        rows.append([name, f"{before.seconds:.1f} s", end, shown, lost, "yes" if ended else "no", left])
        say(f"hostile, {name}: {end}, {shown} verdicts, {lost} ordinary ones lost or changed")
    note = (
        f"The same stream for the others, with the same limit of {LIMIT:.0f} s where they take one (verl's `timeout`, "
        f"math-verify's whole seconds), {outer:.0f} s in all, and {RIVAL_GIB} GiB of address space a process, as they "
        "do not limit their own."
    )
    headings = ["", "clean", "mixed", "verdicts", "ordinary ones lost", "ends when told", "processes left"]
    return [note, *table(headings, rows)]
