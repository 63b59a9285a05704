from types import MappingProxyType

import pytest

from dsdr_verl.algorithm.options import DSDROptions


def test_defaults_are_the_papers():
    options = DSDROptions()
    assert (options.lambda_d, options.lambda_l, options.tau) == (0.001, 0.001, 5.0)
    assert (options.reference_set, options.local_estimator, options.local_ratio_clip) == ("all", "sampled", None)
    assert options.problems() == []


def test_from_mapping_keeps_defaults_and_takes_any_mapping():
    assert DSDROptions.from_mapping({}) == DSDROptions()
    assert DSDROptions.from_mapping(MappingProxyType({"tau": 1, "sigma_d": 0.5})) == DSDROptions(tau=1, sigma_d=0.5)
    assert DSDROptions.from_mapping({"local_ratio_clip": None}).local_ratio_clip is None


@pytest.mark.parametrize("field", ["lambda_d", "lambda_l", "tau"])
def test_zero_switches_off(field):
    assert DSDROptions(**{field: 0}).problems() == []


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf"), "0.1", True, None, [1.0]])
@pytest.mark.parametrize("field", ["lambda_d", "lambda_l", "tau", "sigma_d", "std_eps", "local_ratio_clip"])
def test_bad_numbers_name_the_key_and_the_fix(field, bad):
    if field == "local_ratio_clip" and bad is None:
        return
    (problem,) = DSDROptions(**{field: bad}).problems()
    assert problem.startswith(f"algorithm.dsdr.{field} is {bad!r}")
    assert "set it to a" in problem


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sigma_d", 0),
        ("sigma_d", 1.5),
        ("std_eps", 0),
        ("local_ratio_clip", 1),
        ("score", "both"),
        ("reference_set", "wrong"),
        ("reference_set", None),
        ("local_estimator", True),
    ],
)
def test_out_of_range(field, value):
    (problem,) = DSDROptions(**{field: value}).problems()
    assert problem.startswith(f"algorithm.dsdr.{field} is {value!r}")


def test_every_problem_is_listed_and_unknown_keys_get_a_suggestion():
    with pytest.raises(ValueError) as error:
        DSDROptions.from_mapping({"lamda_d": 1, "zzz": 2, "tau": -1, "reference_set": "x"})
    message = str(error.value)
    assert "algorithm.dsdr has 4 problem(s)" in message
    assert "algorithm.dsdr.lamda_d is not an option; did you mean algorithm.dsdr.lambda_d?" in message
    assert "algorithm.dsdr.zzz is not an option; the options are lambda_d" in message
    assert "algorithm.dsdr.tau is -1" in message
    assert 'set it to "all" or "correct"' in message
