"""What runs in a verifier's child process: math-verify, behind limits that hold whatever it does.

What stops model text from running code: math-verify hands only digits, spaces and `+-*/^()` to sympy's `parse_expr`
(which evaluates), and its LaTeX grammar builds objects without evaluating text. `initialise` does not rely on that:
here `parse_expr` refuses anything but arithmetic and names, and an audit hook refuses files, processes and sockets.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import math_verify.parser
import sympy.parsing.sympy_parser
from math_verify import parse, verify

GRACE = 1.0  # seconds past the limit after which the kernel ends a process that nobody else has ended

# Arithmetic, or a bare name: sympy itself makes symbols of names that way, and a name alone calls nothing.
_HARMLESS = re.compile(r"[\d\s.+\-*/()]*|\w+", re.ASCII)
_parse_expr = sympy.parsing.sympy_parser.parse_expr
_timeout = 0.0
_WARM_UP = ((r"\frac{1}{2}", "0.5"), ("x^2-1", "(x-1)(x+1)"), ("x>3", r"(2,\infty)"), ("y=2x", "x=2y"), ("1+1", "2"))


def initialise(timeout: float, memory_mb: int) -> None:
    """Warms this process up and sets its limits: seconds of wall clock per item, MiB on top of what it then holds."""
    global _timeout
    # Python's own handlers wait for the interpreter, and one big-integer operation can hold that for hours.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    logging.disable(logging.CRITICAL)
    for answer, truth in _WARM_UP:
        _compare(answer, truth)
    math_verify.parser.parse_expr = sympy.parsing.sympy_parser.parse_expr = _parse_harmless
    _timeout = timeout
    limit = _address_space() + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse_side_effects)


def judge(answer: str, truth: str) -> str:
    """The value of a `Verdict` for an answer that strings and plain numbers could not decide."""
    # Should the parent die while we are stuck, nobody else would end us.
    signal.setitimer(signal.ITIMER_REAL, _timeout + GRACE)
    try:
        return _compare(answer, truth)
    except MemoryError:
        return "error"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _compare(answer: str, truth: str) -> str:
    if not (wanted := _parse_truth(truth)):
        return "error"
    found = _parse(answer)
    try:
        if verify(wanted, found, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True):
            return "correct"
    except MemoryError:
        raise
    except Exception:
        return "incorrect"
    return "unparsable" if all(isinstance(item, str) for item in found) else "incorrect"


@lru_cache(maxsize=4096)
def _parse_truth(truth: str) -> list[Any]:
    return _parse(truth)


def _parse(answer: str) -> list[Any]:
    """sympy objects, and the text as it stands where it is no mathematics; empty if not even that."""
    try:
        return parse(r"\boxed{" + answer.replace("**", "^") + "}", parsing_timeout=None, raise_on_error=True)
    except MemoryError:
        raise
    except Exception:  # RecursionError too: an answer too deep to parse
        return []


def _parse_harmless(text: str, *args: Any, **kwargs: Any) -> Any:
    if not _HARMLESS.fullmatch(text):
        raise ValueError("only arithmetic and names are parsed as Python")
    return _parse_expr(text, *args, **kwargs)


_REFUSED = ("os.", "shutil.", "subprocess.", "socket.", "pty.", "ctypes.", "tempfile.", "urllib.", "webbrowser.")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _refuse_side_effects(event: str, args: tuple[Any, ...]) -> None:
    if event.startswith(_REFUSED) and event not in ("os.listdir", "os.scandir"):
        raise PermissionError(f"{event} is refused in a verifier's process")
    if event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
        raise PermissionError(f"opening {args[0]} for writing is refused in a verifier's process")


def _address_space() -> int:
    """Bytes of address space in use; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0
