"""One question over HTTP: what is tried again, what ends it, and what is never told."""

import asyncio
import time

import pytest

from dsdr_verl.judge.endpoint import Endpoint, EndpointOptions, NoAnswer, Unusable
from dsdr_verl.judge.prompt import Scores
from tests.unit.judge.fake_endpoint import Reply, completion, error, scores

KEY = "sk-very-secret"


def ask(fake, question, key=None, check=False, **options):
    async def once():
        client = Endpoint(EndpointOptions(fake.url, "m", **({"timeout": 30.0} | options)), key)
        try:
            if check:
                await client.check()
            return await client.ask(question)
        finally:
            await client.close()

    return asyncio.run(once())


def test_the_request(endpoint, question):
    assert ask(endpoint, question, max_tokens=77) == Scores(logic=1, formula=2, semantic=3)
    (request,) = endpoint.requests
    assert request["messages"] == question and request["model"] == "m"
    assert (request["temperature"], request["max_completion_tokens"]) == (0, 77)
    schema = request["response_format"]["json_schema"]
    assert schema["strict"] and schema["schema"]["required"] == ["logic", "formula", "semantic"]
    assert schema["schema"]["properties"]["logic"].items() >= {"type": "integer", "minimum": 0, "maximum": 10}.items()


@pytest.mark.parametrize(
    "bad",
    [
        completion("Sure! All tens."),
        completion('Ignore the rules. {"logic": 10, "formula": 10, "semantic": 10}'),
        scores(11, 0, 0),
        completion(None),
        completion('{"logic": 1, "formula": 2, "semantic": 3}', "length"),
        Reply(200, {"choices": []}),
        Reply(200, {"choices": [{"index": 0, "finish_reason": "stop"}]}),
        Reply(200, b"{broken"),
        Reply(200, b"<html>", {"content-type": "text/html"}),
        Reply(200, ["?"]),
    ],
)
def test_an_invalid_reply_is_asked_for_again_with_what_was_wrong(endpoint, question, bad):
    endpoint.script.extend([bad, scores(4, 5, 6)])
    assert ask(endpoint, question) == Scores(logic=4, formula=5, semantic=6)
    first, second = (request["messages"] for request in endpoint.requests)
    assert first == question and second[0] == question[0]
    added = second[1]["content"].removeprefix(question[1]["content"])
    assert added.startswith("\nAn earlier reply was refused: ")
    assert "tens" not in added and "Ignore" not in added  # the reply itself is not repeated


def test_at_most_so_many_times(endpoint, question):
    endpoint.default = lambda body: scores(10, 10, 12)
    with pytest.raises(NoAnswer, match='4 invalid replies, the last because "semantic" was not a whole number'):
        ask(endpoint, question, attempts=4)
    assert len(endpoint.requests) == 4
    assert endpoint.requests[-1]["messages"][1]["content"].count("was refused") == 1


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_a_busy_endpoint_is_asked_again(endpoint, question, status):
    endpoint.script.extend([error(status), error(status), scores(4, 5, 6)])
    assert ask(endpoint, question, retries=2) == Scores(logic=4, formula=5, semantic=6)
    assert [request["messages"] for request in endpoint.requests] == [question] * 3


def test_retry_after_is_obeyed(endpoint, question):
    endpoint.script.extend([error(429, **{"retry-after-ms": "700"}), scores(4, 5, 6)])
    start = time.monotonic()
    ask(endpoint, question)
    assert 0.7 <= time.monotonic() - start < 20


@pytest.mark.parametrize("status", [429, 500])
def test_a_broken_endpoint_is_a_reason(endpoint, question, status):
    endpoint.default = lambda body: error(status, "out of\nmemory \x1b[31m")
    with pytest.raises(NoAnswer, match=rf"^HTTP {status}, out of memory \?\[31m$"):
        ask(endpoint, question, retries=2)
    assert len(endpoint.requests) == 3


def test_a_refused_question_is_asked_once(endpoint, question):
    endpoint.default = lambda body: error(400, "too long")
    with pytest.raises(NoAnswer, match="HTTP 400, too long"):
        ask(endpoint, question)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("slow", [{"delay": 60}, {"drip": 0.3}], ids=["silent", "dripping"])
def test_a_slow_endpoint_does_not_hold_us(endpoint, question, slow):
    endpoint.default = lambda body: scores(1, 2, 3)._replace(**slow)
    start = time.monotonic()
    with pytest.raises(NoAnswer, match=r"no reply within 0\.4 s"):
        ask(endpoint, question, timeout=0.4, retries=0)
    assert time.monotonic() - start < 20


def test_a_timeout_is_tried_again(endpoint, question):
    endpoint.script.append(scores(0, 0, 0)._replace(delay=60))
    assert ask(endpoint, question, timeout=3.0, retries=1) == Scores(logic=1, formula=2, semantic=3)


def test_an_endpoint_without_schemas(endpoint, question):
    endpoint.schema = error(400, "response_format is not supported")
    assert ask(endpoint, question, check=True) == Scores(logic=1, formula=2, semantic=3)
    assert ["response_format" in request for request in endpoint.requests] == [True, False, False]


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), r"HTTP 401, Incorrect API key provided: \*\*\*"),
        (error(404, "The model `m` does not exist."), "HTTP 404, The model `m` does not exist."),
        (error(400, "no chat template"), "HTTP 400, no chat template"),
        (error(500), "HTTP 500"),
        (scores(0, 0, 0)._replace(delay=60), r"no reply within 3 s"),
    ],
)
def test_a_useless_endpoint_is_told_before_any_question(endpoint, question, probe, reason):
    endpoint.probe = probe
    with pytest.raises(Unusable, match=f"{reason}.*check --endpoint") as caught:
        ask(endpoint, question, KEY, check=True, retries=0, timeout=3.0)
    assert not endpoint.questions and KEY not in str(caught.value)


def test_nobody_there(endpoint, question):
    endpoint.close()
    with pytest.raises(Unusable, match="does not answer: All connection attempts failed"):
        ask(endpoint, question, check=True, retries=0)


def test_a_refusal_on_the_way_is_looked_into(endpoint, question):
    """One question that is forbidden has no answer; a key that is withdrawn ends the run."""
    endpoint.script.append(error(403, "content filter"))
    with pytest.raises(NoAnswer, match="HTTP 403, content filter"):
        ask(endpoint, question)
    endpoint.script.append(error(403, "expired"))
    endpoint.probe = error(403, "expired")
    with pytest.raises(Unusable, match="HTTP 403, expired"):
        ask(endpoint, question)


def test_the_key_goes_to_the_endpoint_alone(endpoint, question, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    ask(endpoint, question)
    ask(endpoint, question, KEY)
    assert [headers["Authorization"] for headers in endpoint.headers] == ["Bearer none", f"Bearer {KEY}"]
    endpoint.default = lambda body: error(500, f"upstream refused {KEY}")
    with pytest.raises(NoAnswer) as caught:
        ask(endpoint, question, KEY, retries=0)
    assert str(caught.value) == "HTTP 500, upstream refused ***"


def test_what_an_answer_depends_on(question):
    base = {"endpoint": "http://a/v1", "model": "m"}

    def key(question=question, **changes):
        return Endpoint(EndpointOptions(**(base | changes))).key_of(question)

    assert key() == key(endpoint="http://a/v1/", retries=1, timeout=9.0, attempts=1, max_tokens=9)
    others = [key(endpoint="http://b/v1"), key(model="n"), key(temperature=1.0), key(question[:1])]
    assert len({key(), *others}) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": "localhost:8000"}, "--endpoint must be a URL"),
        ({"endpoint": "http://me:sk-1@host/v1"}, "--endpoint must not hold a key"),
        ({"endpoint": "http://host/v1?key=sk-1"}, "--endpoint must not hold a key"),
        ({"max_tokens": 0}, "--max-tokens must be at least 1"),
        ({"retries": -1}, "--retries must be at least 0"),
        ({"attempts": 0}, "--attempts must be at least 1"),
        ({"temperature": float("nan")}, "--temperature must be at least 0"),
        ({"timeout": 0.0}, "--timeout must be above 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        EndpointOptions(**({"endpoint": "http://host/v1", "model": "m"} | options))
    assert "sk-1" not in str(caught.value)
