"""Questions to an OpenAI-compatible endpoint. Waiting and trying again after 429, 5xx and timeouts is openai's part."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion

from dsdr_verl.judge.prompt import SCHEMA, BadAnswer, Messages, Scores, messages, read_answer, with_fault

RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "diversity", "strict": True, "schema": SCHEMA}}

_PROBE = messages("What is 1 + 1?", ["1 + 1 = 2", "Count on from 1: 2"])
_NO_SUCH_SCHEMA = (400, 422)
_REFUSED = (401, 403, 404)  # a wrong key, model or path: all questions would end like this one
_BETWEEN_TRIES = 120  # seconds: the longest Retry-After that openai waits for
_SHOWN = 200  # characters of an error


class Unusable(RuntimeError):
    """The endpoint answers no question at all."""


class NoAnswer(RuntimeError):
    """One question has no answer; the message is the reason."""


@dataclass(frozen=True)
class EndpointOptions:
    """Where to ask, and how hard to try.

    Raises:
        ValueError: an option out of range, or a key in the URL.
    """

    endpoint: str  # up to and with /v1
    model: str
    temperature: float = 0.0
    max_tokens: int = 2048  # of a reply; a reasoning model's thoughts count
    timeout: float = 120.0  # seconds for a request
    retries: int = 5  # of a request, after 429, 5xx, a timeout or a lost connection
    attempts: int = 3  # at a question, while the replies are invalid

    def __post_init__(self):
        url = urlsplit(self.endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("--endpoint must be a URL such as http://127.0.0.1:8000/v1")
        if url.username or url.password or url.query:
            raise ValueError("--endpoint must not hold a key: put it into a variable and name that in --api-key-env")
        for name, least in (("max_tokens", 1), ("retries", 0), ("attempts", 1), ("temperature", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}")
        if not self.timeout > 0:
            raise ValueError("--timeout must be above 0 seconds")


class Endpoint:
    """A client for one run; `check` before the first `ask`, `close` after the last."""

    def __init__(self, options: EndpointOptions, key: str | None = None):
        self.options = options
        self.requests = 0  # as we count them: openai's own retries are part of one
        self.structured = True  # whether the endpoint takes a JSON schema
        self._key = key
        # a key is always given, for openai would else send OPENAI_API_KEY wherever the endpoint is
        self._client = openai.AsyncOpenAI(
            base_url=options.endpoint, api_key=key or "none", timeout=options.timeout, max_retries=options.retries
        )

    def key_of(self, question: Messages) -> str:
        """What an answer depends on, as a hash."""
        options = self.options
        parts = [options.endpoint.rstrip("/"), options.model, options.temperature, question, SCHEMA]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    async def check(self) -> None:
        """Asks a question of two lines, to learn whether the endpoint answers and takes a JSON schema.

        Raises:
            Unusable: it does not answer.
        """
        try:
            try:
                await self._complete(_PROBE, structured=True)
                self.structured = True
            except openai.APIStatusError as error:
                if error.status_code not in _NO_SUCH_SCHEMA:
                    raise
                await self._complete(_PROBE, structured=False)
                self.structured = False
        except (openai.APIError, asyncio.TimeoutError) as error:
            advice = "check --endpoint (up to /v1), --model and --api-key-env"
            raise Unusable(f"{self.options.endpoint} does not answer: {self._reason(error)}; {advice}") from error

    async def ask(self, question: Messages) -> Scores:
        """The scores; an invalid reply is asked for again with what was wrong.

        Raises:
            NoAnswer: no valid reply.
            Unusable: the endpoint has gone.
        """
        asked = question
        for _ in range(self.options.attempts):
            try:
                return read_answer(_text(await self._complete(asked, self.structured)))
            except BadAnswer as fault:
                reason = str(fault)
                asked = with_fault(question, reason)
            except (openai.APIError, asyncio.TimeoutError) as error:
                if isinstance(error, openai.APIConnectionError) or getattr(error, "status_code", None) in _REFUSED:
                    await self.check()
                raise NoAnswer(self._reason(error)) from error
        raise NoAnswer(f"{self.options.attempts} invalid replies, the last because {reason}")

    async def close(self) -> None:
        await self._client.close()

    async def _complete(self, asked: Messages, structured: bool) -> Any:
        options = self.options
        self.requests += 1
        call = self._client.chat.completions.create(
            model=options.model,
            messages=asked,
            temperature=options.temperature,
            max_completion_tokens=options.max_tokens,
            response_format=RESPONSE_FORMAT if structured else openai.omit,
        )
        # openai's timeout is for each read: a server that sends a byte now and then would hold us for ever
        try:
            return await asyncio.wait_for(
                call, options.timeout * (options.retries + 1) + _BETWEEN_TRIES * options.retries
            )
        except ValueError:  # a body that is not JSON, though its header says so
            return None

    def _reason(self, error: Exception) -> str:
        """The first line of an error. Servers have been seen to repeat the key."""
        if isinstance(error, (openai.APITimeoutError, asyncio.TimeoutError)):
            return f"no reply within {self.options.timeout:g} s"
        status = f"HTTP {error.status_code}, " if isinstance(error, openai.APIStatusError) else ""
        body = getattr(error, "body", None)
        text = body.get("message") if isinstance(body, dict) else None
        text = " ".join(str(text or error.__cause__ or error).split())
        text = text.replace(self._key, "***") if self._key else text
        return status + "".join(c if c.isprintable() else "?" for c in text[:_SHOWN])


def _text(completion: Any) -> str | None:
    """The reply's text. What a server sends is not checked by openai.

    Raises:
        BadAnswer: there is none.
    """
    if not isinstance(completion, ChatCompletion) or not completion.choices:
        raise BadAnswer("it was no chat completion")
    choice = completion.choices[0]
    if choice.finish_reason == "length":
        raise BadAnswer("it was cut off at --max-tokens")
    content = getattr(choice.message, "content", None)
    return content if isinstance(content, str) else None
