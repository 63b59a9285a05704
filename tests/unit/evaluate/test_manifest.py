"""Seeds, and what a folder remembers."""

import json

import pytest

from dsdr_verl.evaluate.manifest import FILE, agree, sample_seed

DECIDES = {"seed": 0, "sampling.temperature": 0.7, "engine.args": {"block_size": 32}, "model": "abc"}


def test_a_seed_depends_on_its_own_sample_only():
    seeds = {(s, p, i): sample_seed(s, p, i) for s in (0, 1) for p in ("a", "b") for i in range(100)}
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds.values()), "vLLM and Arrow hold 64 bits with a sign"
    # written down: the same in every version and on every machine
    assert sample_seed(0, "d41d8cd98f00b204", 3) == 8212400483559889216


def test_a_seed_is_not_a_concatenation():
    assert sample_seed(1, "1", 1) != sample_seed(11, "", 1) != sample_seed(1, "11", 1)


def test_a_new_folder_and_a_resumed_one(tmp_path):
    assert agree(tmp_path, DECIDES, {"n": 4}) is False
    assert agree(tmp_path, DECIDES, {"n": 8}) is True
    assert json.loads((tmp_path / FILE).read_text())["n"] == 8


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sampling.temperature": 1.0}, "sampling.temperature was 0.7 and is 1.0"),
        ({"engine.args": {}}, 'engine.args was {"block_size": 32} and is {}'),
        ({"sampling.min_p": 0.1}, "sampling.min_p was null and is 0.1"),
    ],
)
def test_other_settings_are_refused_with_their_keys(tmp_path, changed, says):
    agree(tmp_path, DECIDES, {})
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ValueError, match="output: ") as refused:
        agree(tmp_path, DECIDES | changed, {})
    assert says in str(refused.value) and str(refused.value).count("  - ") == 1
    assert (tmp_path / FILE).read_bytes() == before


def test_a_key_that_is_gone_is_another_setting(tmp_path):
    agree(tmp_path, DECIDES | {"sampling.min_p": 0.1}, {})
    with pytest.raises(ValueError, match=r"sampling.min_p was 0.1 and is null"):
        agree(tmp_path, DECIDES, {})


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"decides": '])
def test_a_broken_manifest_is_not_overwritten(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match="cannot be read"):
        agree(tmp_path, DECIDES, {})
    assert (tmp_path / FILE).read_text() == text
