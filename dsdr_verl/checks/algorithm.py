"""The algorithm: its options, the names it goes by in verl, and what it needs of verl."""

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.checks.reading import ACTOR, get
from dsdr_verl.checks.wording import Problems, not_among, show
from dsdr_verl.scoring.options import ScoringOptions
from dsdr_verl.trainer.health import HealthOptions


def chosen(config: DictConfig) -> Problems:
    if get(config, "algorithm_name") is None:
        others = "grpo, dapo, dsdr_wo_gd, dsdr_wo_gc, dsdr_uniform, diver_style, base"
        yield f"algorithm_name is null: no algorithm is chosen; add +algorithm=dsdr (or {others})"


def options(config: DictConfig) -> Problems:
    for key, kind in (("algorithm.dsdr", DSDROptions), ("scoring", ScoringOptions)):
        section = OmegaConf.to_container(get(config, key, OmegaConf.create({})), resolve=True)
        try:
            kind.from_mapping(section)
        except ValueError as error:
            yield from (line.removeprefix("- ") for line in str(error).splitlines()[1:])


def health(config: DictConfig) -> Problems:
    try:
        HealthOptions.model_validate(OmegaConf.to_container(get(config, "health", OmegaConf.create({})), resolve=True))
    except ValidationError as error:
        for found in error.errors():
            key = ".".join(map(str, ("health", *found["loc"])))
            says = "there is no such option" if found["type"] == "extra_forbidden" else found["msg"]
            yield f"{key} is {show(found['input'])}: {says}"


def names(config: DictConfig) -> Problems:
    """Estimator, loss, trainer and filter: they are looked up in the task runner only."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    estimator, loss = "algorithm.adv_estimator", f"{ACTOR}.policy_loss.loss_mode"
    known = sorted(getattr(name, "value", name) for name in ADV_ESTIMATOR_REGISTRY)
    yield from not_among(estimator, get(config, estimator), known)
    yield from not_among(loss, get(config, loss), sorted(POLICY_LOSS_REGISTRY))
    key, weights = "trainer.v1.trainer_mode", ("algorithm.dsdr.lambda_d", "algorithm.dsdr.lambda_l")
    if get(config, key) != "dsdr" and any(get(config, weight) for weight in weights):
        yield f"{key} is {show(get(config, key))}, a trainer that ignores {' and '.join(weights)}; set it to dsdr"
    drop = "trainer.v1.sampler.sampler_kwargs.drop"
    yield from not_among(drop, get(config, drop, "no_signal"), ("no_signal", "all_wrong"))


def local_estimator(config: DictConfig) -> Problems:
    key, switch = "algorithm.dsdr.local_estimator", f"{ACTOR}.calculate_entropy"
    entropy = get(config, switch) or get(config, f"{ACTOR}.entropy_coeff")
    if get(config, key) == "full" and get(config, "algorithm.dsdr.lambda_l") and not entropy:
        yield f"{key} is 'full', which needs the entropy, and {switch} is false; set {switch}=true"


def validation_only(config: DictConfig) -> Problems:
    """verl looks at the one only after it has validated for the other, and else trains."""
    key, other = "trainer.val_only", "trainer.val_before_train"
    if get(config, key) and not get(config, other, True):
        yield f"{key} is true and {other} is false, with which the run would train; set {other}=true"
