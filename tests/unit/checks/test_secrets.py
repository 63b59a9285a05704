"""Keys and passwords are refused before the config is written anywhere, and are never shown.

That no choice of the config tree and no recipe is taken for one: test_good_configs.py and ../test_recipes.py.
"""

import pytest

from dsdr_verl.evaluate.settings import config_problems as evaluation_problems
from dsdr_verl.sweep.grid import Sweep, compose_problems, jobs_of
from tests.unit.evaluate.test_config import config as evaluation

from .configs import MODEL, ROLLOUT, assert_one, problems

VARIABLES = "ray_kwargs.ray_init.runtime_env.env_vars"
LETTERS = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1eF3hJ5kL"  # made up
FOUND = [
    # by the key
    ("trainer.hf_token", "open sesame", "HF_TOKEN"),
    ("trainer.wandb.api_key", "tall secret", "WANDB_API_KEY"),
    ("trainer.token", "a value", "another variable"),
    ("trainer.authToken", "a value", "another variable"),
    (f"{VARIABLES}.TRACKER_TOKEN", "a value", "another variable"),
    ("trainer.apiKey", "the word", "another variable"),
    ("reward.reward_model.password", "pass1234", "another variable"),
    ("reward.client_secret", "s3cr3t", "another variable"),
    ("reward.credentials", ["first one", "second one"], "another variable"),
    (f"{VARIABLES}.WANDB_API_KEY", "a value", "WANDB_API_KEY"),
    (f"{VARIABLES}.HF_TOKEN", "a value", "HF_TOKEN"),
    (f"{VARIABLES}.AWS_SECRET_ACCESS_KEY", "a value", "another variable"),
    # by what it looks like
    (f"{VARIABLES}.MINE", f"hf_{LETTERS}", "HF_TOKEN"),
    ("trainer.project_name", f"sk-proj-{LETTERS}", "another variable"),
    ("trainer.experiment_name", "0123456789abcdef" * 2 + "01234567", "WANDB_API_KEY"),
    ("trainer.notes", "AKIA" + "ABCD1234" * 2, "another variable"),
    ("trainer.notes", f"ghp_{LETTERS}", "another variable"),
    ("trainer.notes", "xoxb-1234567890-abc", "another variable"),
    ("data.train_files", ["s3://me:hidden@host/train.parquet"], "another variable"),
    (f"{VARIABLES}.HTTPS_PROXY", "http://me:hidden@proxy:3128", "another variable"),
    ("trainer.notes", "-----BEGIN OPENSSH PRIVATE KEY-----", "another variable"),
]
FINE = {
    "data.eos_token": "<|im_end|>",
    "data.stop_tokens": ["</s>", "\n"],
    "data.think_token": "<think>",
    "data.end_token": "</answer>",
    "data.tokenizer": "a/folder",
    "data.prompt_key": "question",
    "data.max_token_len": "128",
    "trainer.password": "",
    "trainer.api_key": None,
    "sampling.max_tokens": "many",
    "trainer.experiment_name": "sk-learn-baseline-with-a-long-name",
    "trainer.project_name": "task-0123456789-0123456789",
    f"{ROLLOUT}.revision": "0123456789abcdef" * 2 + "01234567",
    f"{MODEL}.path": "/hub/snapshots/" + "0123456789abcdef" * 2 + "01234567",
    "data.val_files": "hdfs://host:9000/me@home/val.parquet",
}


def shown(value) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize(("key", "value", "variable"), FOUND, ids=lambda x: str(x)[:40])
def test_a_secret_is_named_and_not_shown(cpu_config, key, value, variable):
    found = problems(cpu_config, {key: value})
    assert any(f"{key} holds what looks like a secret" in problem and variable in problem for problem in found)
    assert not any(text in problem for text in shown(value) for problem in found)


@pytest.mark.parametrize(("key", "value"), FINE.items(), ids=lambda x: str(x)[:40])
def test_what_only_sounds_like_one_is_left_alone(cpu_config, key, value):
    assert not [problem for problem in problems(cpu_config, {key: value}) if "secret" in problem]


def test_other_messages_do_not_show_it_either(cpu_config):
    secret = f"hf_{LETTERS}"
    found = problems(cpu_config, {"trainer.logger": secret, f"{MODEL}.path": f"/{secret}"})
    assert_one(found, "trainer.logger is '***'")
    assert not any(secret in problem for problem in found)


def test_a_variable_that_is_written_out(cpu_config, monkeypatch):
    """`${oc.env:…}` is resolved before the config is saved."""
    monkeypatch.setenv("MY_WORD", f"hf_{LETTERS}")
    found = problems(cpu_config, {"trainer.notes": "${oc.env:MY_WORD}"})
    assert_one(found, "trainer.notes holds what looks like a secret")
    assert not any(LETTERS in problem for problem in found)


def test_an_evaluation_and_a_sweep_look_too(tmp_path):
    secret = f"hf_{LETTERS}"
    found = evaluation_problems(evaluation(f"+engine.args.hf_token={secret}"))
    assert_one(found, "engine.args.hf_token holds", "HF_TOKEN")
    grids = [["+algorithm=dsdr", f"+trainer.token={secret},b"]]
    jobs = jobs_of(Sweep(folder=tmp_path, grids=grids, minutes=1, machine="any"))
    found = compose_problems(jobs)
    assert len(found) == 2 and all("trainer.token holds" in problem for problem in found)
    assert not any(secret in problem for problem in found)
