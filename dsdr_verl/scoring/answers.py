"""The final answer of a response. `equality` says whether it is the right one.

Every function is linear in the text. `extract_answer` looks at the whole of it for markers, and at its last
`TAIL` characters where it has to guess.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator

from dsdr_verl.scoring.latex import boxes, has_open_box, last_box

TAIL = 4096
SENTENCE = 512  # characters of what is looked at after "the answer is"

_MARKER = re.compile(
    r"(?:answer|(?:correct|right|best) (?:option|choice))\*{0,2}\s{0,4}(?:is|:|=)\s{0,4}:?", re.IGNORECASE
)
_DENIED = re.compile(r"\b(?:not|never|wrong|incorrect|cannot|isn't|can't)\b", re.IGNORECASE)
_HEDGED = re.compile(  # around a box
    r"\bnot\s{0,4}[$(]?\\boxed\b"
    r"|\\boxed\{[^{}]{0,99}\}[$)]{0,2}[^.\n]{0,20}\b(?:or|maybe|perhaps|possibly|may|might|could)\b"
    r"|\b(?:not sure|not certain|can(?:no|')t decide|just (?:a )?guess)",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"\b(?:so|thus|hence|therefore|altogether|in (?:all|total)|is|are|equals|makes|costs|gives)\b", re.IGNORECASE
)
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)\s+([\w.]+)")
# A `$` that is spaced on one side only, comes after an operator or before a digit is a dollar sign.
_MATH = re.compile(r"\$\$?((?!\s)[^$]*[^$\s+\-*/=]|\s[^$]*\s)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"\n|\.(?=\s|$)|(?<=\b[A-J]):|,? (?:because|since|as|which|so)\b")
_CLOSING = re.compile(r"[\s.,;:!*]{1,16}$")
_TELLING = re.compile(r"[\d=\\]")
_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's annotations
_DANGLING = re.compile(r"(?:\s|\$|\\[)\]]){1,16}$")
_PROSE = re.compile(r"(?<!\\)(?<![A-Za-z])(?!sqrt|sin|cos|tan|log|exp)[A-Za-z]{3,}")
_NUMBER = re.compile(
    r"(?<![\w.])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:(?<=\d)\.\d+|(?<=\d)|\.\d+)(?:/\d+)?(?!\d|st\b|nd\b|rd\b|th\b)\s?\\?%?",
    re.ASCII,
)
_CHOICE_LINE = re.compile(r"\**\(?([A-J])\)?\**\.?\**")
_UNFINISHED = re.compile(r"[,:;]$|\d[^\d\s]*(?: [A-Za-z]+){3,50}$")
_FULL_STOP = re.compile(r"[.?!]\s")
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))


def last_value(tail: str) -> str | None:
    """The last value in text that marks no answer, or None."""
    lines = [line for line in _CALCULATION.sub("", tail).splitlines() if line.strip()]
    for line in reversed(lines):
        if value := _value_of_line(_CLOSING.sub("", line)):
            return value
    if not lines:
        return None
    choice = _CHOICE_LINE.fullmatch(lines[-1].strip())
    return choice[1] if choice else _last_number(lines[-1])


def extract_answer(
    text: str, require_boxed: bool = False, guess: Callable[[str], str | None] = last_value
) -> str | None:
    r"""The final answer as the response wrote it, or None if there is none.

    The last closed `\boxed{}` wins, then what follows the last `####`, then the last "answer is" or "Answer:". Failing
    these, and unless `require_boxed`, the last line with mathematics is taken: its last formula, or the line if it
    holds no words, of either the right-hand side of the last "="; else the number after its last "=". Failing these
    too, the last number of the last sentence. What is said not to be the answer is none. `guess` does the guessing.
    """
    if (box := _box(text)) or require_boxed:
        return box
    if (cut := text.rfind(r"\boxed{")) >= 0 and "}" not in text[cut:]:
        return None  # the response broke off in its answer
    if (start := text.rfind("####")) >= 0:
        return _clip(text[start + 4 : start + 4 + TAIL].strip().split("\n", 1)[0]) or None
    if last := deque(_MARKER.finditer(text), maxlen=1):
        said = _said(text, last[0].end())
        if _DENIED.match(said):
            return None
        if said:
            return _value_of(said, guess)
    return guess(text[-TAIL:])


def extract_answers(
    text: str,
    require_boxed: bool = False,
    strict: bool = False,
    guess: Callable[[str], str | None] = last_value,
) -> list[str]:
    r"""The final answers of a response, distinct: `extract_answer`'s, or, if `strict`, all that it gives.

    Strict takes every closed `\boxed{}`, every `####` line and every "answer is" for a final answer, in whatever order;
    without any, what `extract_answer` finds, unless that is a number in passing. Empty if there is no answer, no box
    where one is required, or, if strict, a box that is never closed, denied or put in doubt.
    """
    last = extract_answer(text, require_boxed, guess)
    if last is None or (strict and (has_open_box(text) or _HEDGED.search(text[-TAIL:]))):
        return []
    if not strict:
        return [last]
    return list(dict.fromkeys(filter(None, _stated(text, guess)))) or ([last] if _is_sole(last, text) else [])


def _box(text: str) -> str | None:
    if box := last_box(text):
        return box
    bare = deque(_BARE_BOX.finditer(text), maxlen=1)
    return bare[0][1] if bare else None


def _stated(text: str, guess: Callable[[str], str | None]) -> Iterator[str | None]:
    """Every final answer; as a whole sentence where that holds several numbers, which equals nothing."""
    yield from boxes(text)
    for m in re.finditer("####", text):
        yield _clip(text[m.end() : m.end() + TAIL].strip().split("\n", 1)[0])
    for m in _MARKER.finditer(text):
        said = _said(text, m.end())
        if r"\boxed" not in said and (_TELLING.search(said) or len(said) == 1):
            yield _value_of(said, guess) if len(_NUMBER.findall(said)) < 2 or not _PROSE.match(said) else said


def _is_sole(value: str, text: str) -> bool:
    """Whether the line with `value` is that alone, an equation, or a conclusion with no other number."""
    line = next((line for line in reversed(text[-TAIL:].splitlines()) if value in line), value)
    if "=" in line or not _NUMBER.search(value) or not _PROSE.search(line.replace(value, "")):
        return True
    return len(_NUMBER.findall(line)) == 1 and _CONCLUDES.search(line[: line.rindex(value)]) is not None


def _clip(text: str) -> str:
    return text.strip().strip("*").strip()


def _said(text: str, start: int) -> str:
    """What follows "the answer is": its first formula if one opens the sentence, else up to the sentence's end."""
    text = text[start : start + SENTENCE].strip().lstrip("*: ")
    if (math := _MATH.search(text)) and not _PROSE.search(text[: math.start()]) and "\n" not in text[: math.start()]:
        return next(group for group in math.groups() if group).strip()
    return _clip(_SENTENCE_END.split(text, maxsplit=1)[0])


def _value_of(said: str, guess: Callable[[str], str | None]) -> str | None:
    return guess(said) if _PROSE.match(said) and any(c.isdigit() for c in said) else said


def _value_of_line(line: str) -> str | None:
    found = list(_MATH.finditer(line))
    if found and "=" in line[found[-1].end() :]:
        found = []
    formulas = [next(group for group in m.groups() if group) for m in reversed(found)]
    for candidate in filter(_TELLING.search, (*formulas, line)):
        value = _DANGLING.sub("", candidate.rsplit("=", 1)[-1]).strip(" *")
        if 0 < len(value) <= 200 and not _PROSE.search(value):
            return value
    sides = line.split("=")
    if len(sides) > 1 and (leading := _NUMBER.match(sides[-1].lstrip(" $*"))):
        return leading[0].strip()
    return None


def _last_number(line: str) -> str | None:
    line = line.rstrip()
    sentence = _FULL_STOP.split(line.rstrip("."))[-1]
    if _UNFINISHED.search(line) or _DENIED.search(sentence):
        return None
    numbers = _NUMBER.findall(sentence)
    return numbers[-1].strip() if numbers else None


def unwrap(answer: str) -> str:
    """`answer` without the delimiters around it and a closing full stop."""
    answer = answer.strip()
    while True:
        inner = answer[: _end(answer)]
        for left, right in _WRAPPERS:
            middle = inner[len(left) : -len(right)]
            if inner.startswith(left) and inner.endswith(right) and left not in middle and right not in middle:
                inner = middle.strip()
        if inner == answer:
            return answer
        answer = inner


def _end(answer: str) -> int:
    r"""Where `answer` ends but for spaces, `\,` and the like, and closing punctuation."""
    end = len(answer)
    while end and (
        answer[end - 1] in " .,;:\n" or (answer[end - 1] == "\\" and answer[end : end + 1] in (",", ";", ":", " "))
    ):
        end -= 1
    return end
