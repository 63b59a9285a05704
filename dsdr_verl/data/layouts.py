"""The keys that each public dataset has its problems under, as pydantic models; `parse` turns a row into a problem."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dsdr_verl.scoring.answers import extract_answer

# What DAPO-Math-17k wraps every problem in; ours comes instead (see `prepare`).
_DAPO_HEAD = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
_DAPO_TAIL = '\n\nRemember to put your answer on its own line after "Answer:".'
_MATH_DOLLAR = re.compile(r"(?<!\\)\$")


def normalise(text: str) -> str:
    """One spelling for texts that differ in white space and in Unicode's composition only."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _encodable(text: str) -> str:
    """Refuse half a surrogate pair, which JSON can spell and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("unicode", "is not valid Unicode (half a surrogate pair): write it anew") from None
    return text


def _not_empty(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("empty", "is empty: fill it in, or delete the row")
    return text.strip()


def _number_as_text(value: Any) -> Any:
    """Write 142 and 142.0 as "142": competition answers come as either."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("finite", "is {value}, not a finite number: write the answer", {"value": str(value)})
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


Encodable = Annotated[str, AfterValidator(_encodable)]
Text = Annotated[Encodable, AfterValidator(_not_empty)]
Answer = Annotated[Text, BeforeValidator(_number_as_text)]
Id = Annotated[Encodable, BeforeValidator(_number_as_text)]


def _key(*names: str, **options: Any) -> Any:
    return Field(validation_alias=AliasChoices(*names), **options)


class Layout(BaseModel):
    """A row of a dataset. Its `question`, `truth` and `source_id` are what a problem is made of."""

    model_config = ConfigDict(strict=True, extra="ignore")

    @property
    def wanted(self) -> bool:
        """Whether the row belongs to the part of the dataset that is used."""
        return True

    @classmethod
    def columns(cls, required: bool) -> list[tuple[str, ...]]:
        """For each key that a row must have (or may have), the names that it goes by."""
        fields = [(name, field) for name, field in cls.model_fields.items() if field.is_required() == required]
        return [tuple(f.validation_alias.choices) if f.validation_alias else (name,) for name, f in fields]


class Solved(Layout):
    r"""AIME, AMC, MATH-500 and Minerva: an answer, or a worked solution that ends in ``\boxed{}``."""

    question: Text = _key("problem", "question", "Problem")
    answer: Answer | None = _key("answer", "Answer", default=None)
    solution: Encodable | None = _key("solution", "Solution", default=None)
    source_id: Id | None = _key("unique_id", "id", "idx", "ID", default=None)

    @model_validator(mode="after")
    def _has_answer(self) -> Solved:
        if not self.truth:
            hint = r"is missing: add it, or a `solution` that ends in \boxed{answer}"
            raise PydanticCustomError("answer", "`answer` {hint}", {"hint": hint})
        return self

    @property
    def truth(self) -> str:
        """The answer."""
        return self.answer or extract_answer(self.solution or "", require_boxed=True) or ""


class GSM8K(Layout):
    """A worked solution whose last line is ``#### N``."""

    question: Text
    answer: Text
    source_id: Id | None = _key("idx", "id", default=None)

    @model_validator(mode="after")
    def _has_answer(self) -> GSM8K:
        if "####" not in self.answer or not self.truth:
            raise PydanticCustomError("answer", "`answer` has nothing after `####`: end the solution in `#### N`")
        return self

    @property
    def truth(self) -> str:
        """The number, without the commas of thousands."""
        return self.answer.rpartition("####")[2].strip().replace(",", "")


class Olympiad(Layout):
    """OlympiadBench, with files for each language, subject, modality and kind; `wanted` says which are used."""

    question: Text
    answers: list[Answer] | None = _key("final_answer")
    context: Encodable | None = None
    source_id: Id | None = _key("id", default=None)
    modality: str | None = None
    language: str | None = None
    subject: str | None = None

    @model_validator(mode="after")
    def _has_answer(self) -> Olympiad:
        if self.wanted and self.answers == []:
            raise PydanticCustomError("answer", "`final_answer` is an empty list: give the answer, or delete the row")
        return self

    @property
    def wanted(self) -> bool:
        """Text-only, English, mathematics; proofs have no final answer."""
        found = (self.modality, self.language, self.subject)
        used = zip(found, ("text-only", "english", "math"), strict=True)
        return self.answers is not None and all(v is None or v.lower().startswith(start) for v, start in used)

    @property
    def truth(self) -> str:
        """All final answers in one line, without their dollars."""
        return _MATH_DOLLAR.sub("", ", ".join(self.answers))

    @model_validator(mode="after")
    def _with_context(self) -> Olympiad:
        if self.context and self.context.strip():
            self.question = f"{self.context.strip()}\n{self.question}"
        return self


class _Message(Layout):
    role: Literal["system", "user", "assistant"]
    content: Text


class _Reward(Layout):
    ground_truth: Answer


class _Index(Layout):
    index: Id | None = None


class DAPO(Layout):
    """verl's own keys (BytedTsinghua-SIA/DAPO-Math-17k), or a plain `prompt` beside them (open-r1's copy)."""

    prompt: list[_Message] | Text
    reward_model: _Reward
    extra_info: _Index | None = None

    @model_validator(mode="after")
    def _has_question(self) -> DAPO:
        if not self.question:
            raise PydanticCustomError("empty", "`prompt` holds no problem: fill it in, or delete the row")
        return self

    @property
    def question(self) -> str:
        """The problem without the instructions around it."""
        text = self.prompt
        if not isinstance(text, str):
            text = next((m.content for m in reversed(text) if m.role == "user"), "")
        return text.removeprefix(_DAPO_HEAD).removesuffix(_DAPO_TAIL).strip()

    @property
    def truth(self) -> str:
        """The answer."""
        return self.reward_model.ground_truth

    @property
    def source_id(self) -> str | None:
        """The dataset's own id, the same in all copies of a problem."""
        return self.extra_info.index if self.extra_info else None


def parse(layout: type[Layout], row: dict[str, Any]) -> Layout | list[str]:
    """A row as its layout, or what is wrong with it: a sentence a field."""
    try:
        return layout.model_validate(row)
    except ValidationError as error:
        return list(dict.fromkeys(_in_words(fault) for fault in error.errors(include_url=False, include_context=False)))


def _in_words(fault: dict[str, Any]) -> str:
    # pydantic adds the branch of a union to the path; a person looks for keys and positions
    path = [str(part) for part in fault["loc"] if isinstance(part, int) or part.isidentifier()]
    key = f"`{'.'.join(path)}`" if path else ""
    if fault["type"] == "missing" or fault["input"] is None:
        return f"{key} is missing: add it, or delete the row"
    if fault["type"] in ("empty", "finite", "answer", "unicode"):
        return f"{key} {fault['msg']}".strip()
    expected = {"string_type": "text", "list_type": "a list", "model_type": "an object"}.get(fault["type"])
    if expected:
        return f"{key} is a {type(fault['input']).__name__}, not {expected}: write it as {expected}"
    return f"{key} {fault['msg'][0].lower()}{fault['msg'][1:]}, and it is {str(fault['input'])[:40]!r}"
