"""What runs in a worker process of the sandbox: math-verify and sympy, behind limits that hold whatever they do.

What stops model text from running code: math-verify hands only digits, spaces and `+-*/^()` to sympy's `parse_expr`
(which evaluates), and its LaTeX grammar builds objects without evaluating text. `serve` does not rely on that: here
`parse_expr` refuses anything but arithmetic and names, and an audit hook refuses files, processes and sockets.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import math_verify.parser
import sympy
import sympy.parsing.sympy_parser
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from sympy.core.cache import clear_cache

from dsdr_verl.scoring.canonical import canonical
from dsdr_verl.scoring.grammar import latex2sympy
from dsdr_verl.scoring.latex import nesting
from dsdr_verl.scoring.normalize import LIST, split_outside

# Of an answer that takes algebra: past them the grammar can take minutes.
MAX_DEPTH = 30  # of brackets in brackets
MAX_ITEMS = 200  # of a list or a set

FORGETS_AFTER = 20  # questions; sympy would keep what it met in them, up to 10 MiB over some thousands

# Arithmetic, or a bare name: sympy itself makes symbols of names that way, and a name alone calls nothing.
_HARMLESS = re.compile(r"[\d\s.+\-*/()]*|\w+", re.ASCII)
_parse_expr = sympy.parsing.sympy_parser.parse_expr
# One of each kind, so that no worker meets a part of the grammar for the first time.
_WARM_UP = (
    (r"\frac{1}{2}", "0.5"), (r"-\frac{3\sqrt{2}}{4}", r"\sqrt[3]{5}"), ("x^2-1", "(x-1)(x+1)"), ("x>3", r"(2,\infty)"),
    ("y=2x", "x=2y"), ("1+1", "2"), (r"(1,\frac{\pi}{2})", "(1,2,3)"), (r"\{1,2\}", "2, 1"), (r"2\pm\sqrt{3}", "1,2"),
    (r"(-\infty,2)\cup[3,4]", r"x\le2"), (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    (r"\sin{x}+\cos^2{x}", r"\log_{2}8+\ln x"), (r"\binom{5}{2}", "5!"), ("3-4i", "e^{2x}"), (r"2\cdot10^3", "3x+2y=6"),
    ("3x^2-4x+7", "(x+2)(x-3)"), (r"\frac{x^2}{9}+y^2=1", "x_1=2, x_2=3"), (r"x<1\lor x>2", r"x\ne3"),
    (r"\frac{-1+\sqrt{13}}{6}", r"\frac{\sqrt{5}-1}{2}"), (r"36\pi", r"4\pi r^2"), (r"\frac{a+b}{c}", r"\frac{1}{x+1}"),
    ("10+2i", "6r^2-4r"), (r"\frac{200}{\pi}", r"\sqrt{x^2+1}"), ("12", "-3"), (r"8\sqrt{2}", "x^2+y^2"),
    (r"\tan\theta", r"90^\circ"), (r"\left(\frac{1}{2},3\right)", "[0,1]"), (r"2^{n+1}", r"n(n+1)/2"),
    ("abc", r"\infty"),
    (r"|x|", r"\lfloor x\rfloor"), ("a_1+a_2", r"\alpha\theta"), (r"1<x\le2", r"x\in[1,2)"), ("0.123", r"12\%"),
)  # fmt: skip


def warm_up() -> None:
    """Does the lazy imports of math-verify and sympy, and shuts sympy's evaluating parser off from text."""
    logging.disable(logging.CRITICAL)
    math_verify.parser.latex2sympy = latex2sympy
    for answer, truth in _WARM_UP:
        judge(answer, truth)
        canonical(answer)
    math_verify.parser.parse_expr = sympy.parsing.sympy_parser.parse_expr = _parse_harmless


def exercise() -> None:
    """Some of the warm-up once more, after the fork: a page is copied when it is first written to, if only to count a
    reference, and a spare has the time for it before it is asked."""
    for answer, truth in _WARM_UP[::4]:
        judge(answer, truth)


def serve(descriptor: int, memory_mb: int) -> None:
    """Answers questions `[task, *arguments]`, as JSON, until the other end is closed.

    Args:
        descriptor: of a connected socket.
        memory_mb: MiB of address space that may be taken on top of what is held now.
    """
    limit = _address_space() + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse_side_effects)
    connection = Connection(descriptor)
    connection.send_bytes(b"ready")
    exercise()
    for asked in count(1):
        try:
            task, *arguments = json.loads(connection.recv_bytes())
        except EOFError:
            return
        connection.send_bytes(json.dumps(TASKS[task](*arguments)).encode())
        if asked % FORGETS_AFTER == 0:  # when the reply is on its way
            forget()


def forget() -> None:
    """Empties the caches that grow with what was asked."""
    clear_cache()
    _parse_truth.cache_clear()


def judge(*pairs: str) -> str:
    """The value of a `Verdict`: of answer, truth, answer, truth, … the first that is not correct decides."""
    verdict = "correct"
    for answer, truth in zip(pairs[::2], pairs[1::2], strict=True):
        try:
            verdict = _compare(answer, truth)
        except Exception:  # MemoryError, and what sympy raises of sets and relations that it cannot handle
            verdict = "error"
        if verdict != "correct":
            break
    return verdict


TASKS: dict[str, Callable[..., str | None]] = {"judge": judge, "canonical": canonical}


def _compare(answer: str, truth: str) -> str:
    wanted = _parse_truth(truth)
    if not wanted:
        return "error"
    found = _parse(answer)
    if not any(isinstance(item, sympy.Basic | sympy.MatrixBase) for item in found):
        return "unparsable"
    return "correct" if not _differ(wanted[0], found[0]) and _same(wanted, found) else "incorrect"


def _differ(a: Any, b: Any) -> bool:
    """Whether two expressions with variables are far apart at two points: told sooner than by `simplify`."""
    if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)):
        return False
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    if not 0 < len(symbols) <= len(_POINT):
        return False
    for shift in (0.0, 0.31):
        at = {symbol: value + shift for symbol, value in zip(symbols, _POINT, strict=False)}
        try:
            x, y = complex(a.evalf(subs=at)), complex(b.evalf(subs=at))
        except MemoryError:
            raise
        except Exception:  # no number comes of it
            return False
        if not abs(x - y) > 1e-3 * max(1.0, abs(x), abs(y)):
            return False
    return True


_POINT = (0.7312, 1.3871, 1.9123, 2.4567, 0.5193)


def _same(wanted: list[Any], found: list[Any]) -> bool:
    if _verify(wanted, found):
        return True
    if isinstance(wanted[0], _RELATION) and isinstance(found[0], sympy.Set):  # (2,∞) for x>2
        return len(wanted[0].free_symbols) == 1 and _verify([wanted[0].as_set()], found)
    exactly = [_rationalised(item) for item in wanted], [_rationalised(item) for item in found]
    return exactly != (wanted, found) and _verify(*exactly)


def _verify(wanted: list[Any], found: list[Any]) -> bool:
    try:
        return verify(wanted, found, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
    except MemoryError:
        raise
    except Exception:
        return False


def _rationalised(item: Any) -> Any:
    """Without floats, whose rounding math-verify takes at its word."""
    floats = item.atoms(sympy.Float) if isinstance(item, sympy.Basic) else None
    return item.xreplace({x: sympy.Rational(str(x)) for x in floats}) if floats else item


@lru_cache
def _parse_truth(truth: str) -> list[Any]:
    return _parse(truth)


def _parse(answer: str) -> list[Any]:
    """sympy objects, and the text as it stands where it is no mathematics; empty if not even that."""
    if nesting(answer) > MAX_DEPTH or answer.count(",") >= MAX_ITEMS:
        return []
    try:
        parts = answer.split(r"\lor")
        if len(parts) > 1:
            return _either(parts)
        text = _DEGREES.sub(r"{\\frac{\1\\pi}{180}}", _both_signs(answer).replace("**", "^"))
        if not _DIFFERENTIAL.search(text):
            text = _VARIABLE_D.sub("d_{0}", text)
        items = parse(r"\boxed{" + text + "}", _EXTRACTION, parsing_timeout=None, raise_on_error=True)
        return [_with_imaginary_unit(item) for item in items]
    except MemoryError:
        raise
    except Exception:  # RecursionError too: an answer too deep to parse
        return []


def _both_signs(answer: str) -> str:
    r"""Each item with one \pm as two. math-verify reads that sign only between whole terms."""
    braces = answer.startswith(r"\{") and answer.endswith(r"\}")
    items = split_outside(answer[2:-2] if braces else answer, LIST)
    both = ",".join(
        f"{_PLUS_MINUS.sub('+', item)},{_PLUS_MINUS.sub('-', item)}" if len(_PLUS_MINUS.findall(item)) == 1 else item
        for item in items
    )
    return rf"\{{{both}\}}" if braces else both


def _either(parts: list[str]) -> list[Any]:
    """One set: of the solutions of inequalities, or of the alternatives themselves."""
    items = [next(item for item in _parse(part) if isinstance(item, sympy.Basic)) for part in parts]
    if all(isinstance(item, _RELATION) for item in items):
        return [sympy.Union(*(item.as_set() for item in items))]
    return [sympy.FiniteSet(*items)]


def _with_imaginary_unit(item: Any) -> Any:
    """math-verify leaves i a symbol, so that i^2 is not -1."""
    if not isinstance(item, sympy.Expr) or item.has(sympy.Sum, sympy.Product):
        return item
    item = item.xreplace({x: sympy.I for x in item.free_symbols if x.name == "i"})
    return sympy.expand_complex(item.doit()) if item.has(sympy.I) else item


# Not its own way with units, which takes the variables of 2ab for one.
_EXTRACTION = (
    LatexExtractionConfig(normalization_config=replace(LatexExtractionConfig().normalization_config, units=False)),
    ExprExtractionConfig(),
)
_RELATION = sympy.core.relational.Relational | sympy.And
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z])")
_DIFFERENTIAL = re.compile(r"\\int|\\frac\{d")
_VARIABLE_D = re.compile(r"(?<![A-Za-z\\{])d(?![A-Za-z])")  # else d x is a differential
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\^\{?\\circ\}?")


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
