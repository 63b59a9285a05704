"""`python -m tests.audit`: known vulnerabilities of what the locks pin, by pip-audit from OSV's database.

Exit: 0 none, 1 some, 2 pip-audit itself failed, 3 the database was not reached, so nothing is known (0 with
`--unreachable-ok`). Other options are pip-audit's, such as `--ignore-vuln ID`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
PINS = tuple(REQUIREMENTS / name for name in ("cpu.lock", "cpu-torch.txt", "gpu.lock"))
NONE, FOUND, FAILED, UNREACHABLE = range(4)
# How pip-audit ends where nobody answers, or with an error of a server's.
_NO_ANSWER = re.compile(r"ConnectionError|ConnectTimeout|ReadTimeout|ServiceException|Could not connect|HTTPError: 5")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.audit", description=__doc__.partition("\n")[0])
    parser.add_argument("--unreachable-ok", action="store_true", help="exit with 0 if the database is not reached")
    parser.add_argument("--pins", type=Path, nargs="+", default=PINS, help="requirements files, every line pinned")
    args, more = parser.parse_known_args(arguments)
    worst = NONE
    for file in args.pins:
        code, text = audit(file, more)
        print(f"{file.name}: {text}", flush=True)
        if code == UNREACHABLE:
            print("NOT AUDITED: whether the packages have known vulnerabilities is not known", flush=True)
            return NONE if args.unreachable_ok and worst == NONE else worst or UNREACHABLE
        worst = FOUND if FOUND in (code, worst) else max(code, worst)
    return worst


def audit(file: Path, options: Sequence[str] = ()) -> tuple[int, str]:
    """The code, and what to say about it."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--disable-pip", "--no-deps"]
    command += ["--progress-spinner", "off", "--format", "json", "--requirement", str(file), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return (UNREACHABLE, f"no answer ({last})") if _NO_ANSWER.search(done.stderr) else (FAILED, done.stderr.strip())
    looked_at = [package for package in packages if "vulns" in package]
    lines = [f"{len(looked_at)} of {len(packages)} packages looked up"]
    lines += [
        f"  not looked up: {package['name']}: {package.get('skip_reason')}"
        for package in packages
        if "vulns" not in package
    ]
    found = [(package, vulnerability) for package in looked_at for vulnerability in package["vulns"]]
    for package, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        lines.append(f"  {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    code = FOUND if found else NONE if looked_at and done.returncode == 0 else FAILED
    return code, "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
