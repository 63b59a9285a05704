"""What the generators draw from: pieces of LaTeX and prose, strange characters, code, and answers without end."""

from __future__ import annotations


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.split("\n") if line)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# "%" stands for an expression in these two.
STEPS = _lines(r"""
First, note that $%$ holds.
So \(%\) and we get \[% = %\]
Then % = %, and there are 7 apples.
**Step**: $$%$$
She pays $5 and then $12, so 5 + 12 = 17 dollars.
\begin{align*} % &= % \\ &= % \end{align*}
x = % <<2*3=6>>
Therefore, since $x = %$ is positive, we may divide by $%$.
* of 3 + 4 = 7 things
Let $a\in\{%, %\}$.
""")
ENDINGS = (
    *_lines(r"""
\boxed{%}
Thus $\boxed{%}$.
The answer is %.
#### %
The final answer is: $%$
so x = %
**Answer: %**
\[ \boxed{ % } \]
$\boxed{\text{%}}$
\fbox{%}
= %
%
\boxed{%
I do not know
\boxed{}
"""),
    "",
)
TOKENS = (
    *_words(r"""
\boxed{ \fbox{ \text{ \frac{ \frac \sqrt \sqrt[ { } {} ( ) [ ] \{ \} \( \) \[ \] $ $$ \$ \\ \\[ \\[1em] \ & ^ _ = == <=
>= < > << >> + - * ** / ! % \% , . ; : #### ## answer Answer: The is ~ ' ` ** \left \right \left( \right) \left. \right.
\begin{align*} \end{align*} \begin{equation} \end{equation} \begin{gather} \begin{pmatrix} \end{pmatrix} \begin{cases}
\pm \infty \pi \sum_{i=1}^{9} \int_0^1 \lim_{x\to0} \log \sin \binom{5}{2} \cup \cap \in \emptyset \varnothing
\mathbb{R} \dots \operatorname{ \mathrm{ \dfrac \tfrac12 \cdot \times \div \le \ge \ne \approx \, \; \! \quad
\displaystyle {,} {.} x y z i e 0 1 2 10 1,000 0.5 .5 1e5 1/2 007 apples 3rd sqrt( pi mod oo nan zoo inf lambda None
True if else for
"""),
    *(" ", "\n", "\n\n", "\t", "\r\n", "\0", "\x0b", "\x1b[31m", "\x7f", "\u2028"),
    *("\u200f", "\u202e", "\ufeff", "\u200b"),
)
STRANGE = (
    *("\ud800", "\udfff", "\ud83d", "\udc80", "\ufffd", "\U0010ffff", "\uffff", "e\u0301"),
    *_words("é ß İ ı ﬁ ２ ٣ ½ ² − – × · ÷ ≤ ≠ π ∞ √ ∑ 答案 是 ， （ ） الجواب תשובה 🤖 👨‍👩‍👧 Ω 𝟚"),
)
PAIRS = (
    *(("{", "}"), ("(", ")"), ("[", "]"), (r"\{", r"\}"), ("$", "$"), ("|", "|"), ("-", ""), ("1+", ""), ("x^{", "}")),
    *((r"\frac{1}{", "}"), (r"\sqrt{", "}"), (r"\boxed{", "}"), (r"\text{", "}"), (r"\left(", r"\right)")),
    (r"\begin{align}", r"\end{align}"),
)
# All of them would leave a file in the working directory, or show that they ran.
CODE = (
    "\x1b]0;INJECTED\x07",
    *_lines(r"""
__import__('os').system('touch INJECTED')
open('INJECTED','w')
eval("open('INJECTED','w')")
exit()
().__class__.__base__.__subclasses__()
lambda: open('INJECTED','w')
import os; os.remove('x')
S('open("INJECTED","w")')
lambdify(x, 1)
Integer(2)**Integer(10)**10
\input{/etc/passwd}
\write18{touch INJECTED}
\immediate\write18{touch INJECTED}
\openout1=INJECTED
\catcode`\@=11
\def\x{\x\x}\x
`touch INJECTED`
$(touch INJECTED)
{0.__class__}
%s%n%s
{}{0}{x!r}
{{7*7}}
\\?\C:\INJECTED
'; DROP TABLE answers; --
<script>touch</script>
"""),
)
# Answers that take algebra for ever, or memory without end.
ENDLESS = (
    *_lines(r"""
10^{10^{10}}
100000000!
\sum_{i=1}^{1000000000} i^i
\prod_{i=1}^{10^9} i
(x+y+z)^{300}
((((9^9)^9)^9)^9)^9
2^{2^{2^{2^{2^2}}}}
1e999999999
1/3^{10^8}
\sqrt[10^9]{2}
\binom{10^9}{10^8}
\int_0^1 x^{x^{x^{x}}} dx
x^{40}+\sin(x)=3
(1, 10^{10^{10}})
0^{-1}
\operatorname{eye}(100000)
"""),
    "9" * 4000 + "^{99999}",
    r"\{" + ",".join(map(str, range(900))) + r"\}",
)
