import pytest

from dsdr_verl.judge import prompt
from tests.unit.judge.fake_endpoint import FakeEndpoint


@pytest.fixture
def endpoint():
    fake = FakeEndpoint()
    yield fake
    fake.close()


@pytest.fixture
def question():
    return prompt.messages("p", ["a", "b"])
