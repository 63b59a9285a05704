"""latex2sympy, several times faster on most input.

ANTLR's full prediction, which latex2sympy asks for, starts from nothing at every token. Its cheaper mode remembers, and
by its documentation either gives the same tree or reports a syntax error; then the full one decides.
"""

from __future__ import annotations

import re
from typing import Any

import latex2sympy2_extended.latex2sympy2 as grammar
from antlr4.atn.PredictionMode import PredictionMode

_mode = PredictionMode.LL
# {x}^2 is clear to the cheaper mode, x^2 is not.
_POWER = re.compile(r"(?<![A-Za-z\\_])[A-DF-Za-df-z](?=\^)|\\pi(?=\^)")


class _Parser(grammar.PSParser):
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._interp.predictionMode = _mode


grammar.PSParser = _Parser


def latex2sympy(latex: str, *args: Any, **kwargs: Any) -> Any:
    """As `latex2sympy2_extended.latex2sympy`; for one thread."""
    global _mode
    try:
        _mode = PredictionMode.SLL
        return grammar.latex2sympy(_POWER.sub(r"{\g<0>}", latex), *args, **kwargs)
    except MemoryError:
        raise
    except Exception:
        _mode = PredictionMode.LL
        return grammar.latex2sympy(latex, *args, **kwargs)
    finally:
        _mode = PredictionMode.LL
