"""A small grammar of LaTeX answers."""

from __future__ import annotations

from random import Random

_ATOMS = (
    "x",
    "y",
    "n",
    "a",
    "0",
    "1",
    "2",
    "3",
    "7",
    "12",
    "100",
    "0.5",
    "-1",
    r"\pi",
    "e",
    "i",
    r"\infty",
    r"\theta",
    "10^6",
)
# "%" stands for an expression.
_RULES = (
    *("% + %", "% - %", "%%", r"% \cdot %", "% * %", r"\frac{%}{%}", r"\dfrac{%}{%}", r"\frac%%", "%/%", r"\sqrt{%}"),
    *(
        r"\sqrt[3]{%}",
        "%^2",
        "%^{%}",
        "%_{%}",
        "(%)",
        r"\left(%\right)",
        "|%|",
        r"\sin %",
        r"\log_{2} %",
        r"\binom{%}{%}",
    ),
    *("-%", r"%^\circ", "%!", r"\text{%}", r"\sum_{k=1}^{5} %", r"\int_0^1 % dx", r"\lfloor % \rfloor", r"%\%"),
    *(r"\overline{%}", r"\operatorname{%}(%)"),
)
_WHOLE = (
    *("%", "%", "%", "%", "x = %", "(%, %)", r"\{%, %, %\}", "[%, %)", "%, %", r"\pm %", "% < x < %", "% = %", "$%$"),
    *(
        r"x \in (%, %) \cup (%, %)",
        r"\begin{pmatrix} % & % \\ % & % \end{pmatrix}",
        r"% \text{ cm}",
        "% apples",
        r"\$%",
    ),
    *(r"x \equiv % \pmod{7}", r"\text{(B) } %"),
)
_NUMBERS = (
    *("{}", "{}", "{}", "-{}", "{:,}", "{}.0", "{}.25", r"{}\%", "{}/7", "+{}", "0{}", "{}e3", "1 {}/9"),
    r"\frac{{{}}}{{3}}",
)


def expression(random: Random, depth: int = 3) -> str:
    """An expression up to `depth` rules deep. Powers of powers are rare enough for most to be computable."""
    if depth <= 0 or random.random() < 0.3:
        return random.choice(_ATOMS) if random.random() < 0.7 else number(random)
    return _filled(random, random.choice(_RULES), depth - 1)


def answer(random: Random) -> str:
    """What stands in a box: a number more often than not."""
    if random.random() < 0.4:
        return number(random)
    return _filled(random, random.choice(_WHOLE), random.choice([0, 1, 1, 2, 3]))


def number(random: Random) -> str:
    value = random.choice([random.randrange(10), random.randrange(1000), random.randrange(10**9)])
    if random.random() < 0.01:
        value = random.randrange(10 ** random.choice([30, 130, 3000]))
    return random.choice(_NUMBERS).format(value) if value < 10**1000 else f"{value:x}"


def _filled(random: Random, rule: str, depth: int) -> str:
    first, *rest = rule.replace(r"\%", "\0").split("%")
    return (first + "".join(expression(random, depth) + part for part in rest)).replace("\0", r"\%")
