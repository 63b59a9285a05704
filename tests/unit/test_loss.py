"""The loss that the FSDP worker runs, on verl's own nested batches."""

import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import FSDPActorConfig
from verl.workers.utils.losses import ppo_loss

from dsdr_verl.algorithm.options import DSDROptions
from dsdr_verl.trainer.loss import WEIGHT, dsdr_loss

G = 4


def actor_config() -> FSDPActorConfig:
    config = OmegaConf.create(
        {
            "_target_": "verl.workers.config.FSDPActorConfig",
            "strategy": "fsdp2",
            "rollout_n": G,
            "ppo_mini_batch_size": 2,
            "use_dynamic_bsz": True,
            "loss_agg_mode": "seq-mean-token-mean",
            "clip_ratio_low": 0.2,
            "clip_ratio_high": 0.28,
            "policy_loss": {"_target_": "verl.workers.config.PolicyLossConfig", "loss_mode": "dsdr"},
        }
    )
    return omega_conf_to_dataclass(config)


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def batch(n: int, seed: int = 0, padding: int = 0):
    """n rollouts of random lengths; the last `padding` of them have an empty mask. Log-probs carry gradient."""
    generator = torch.Generator().manual_seed(seed)
    prompt_lengths = torch.randint(1, 5, (n,), generator=generator).tolist()
    lengths = torch.randint(1, 7, (n,), generator=generator).tolist()
    log_probs = [-2 * torch.rand(p + t, generator=generator) for p, t in zip(prompt_lengths, lengths, strict=True)]
    leaf = torch.cat(log_probs).requires_grad_()
    offsets = torch.tensor([0, *[len(row) for row in log_probs]]).cumsum(0)
    masks = [torch.ones(t, dtype=torch.int64) for t in lengths]
    for row in range(n - padding, n):
        masks[row].zero_()
    weight = torch.rand(n, generator=generator)
    weight[n - padding :] = 0
    columns = {
        "prompts": nested(torch.ones(p, dtype=torch.int64) for p in prompt_lengths),
        "responses": nested(torch.ones(t, dtype=torch.int64) for t in lengths),
        "response_mask": nested(masks),
        "old_log_probs": nested(-2 * torch.rand(t, generator=generator) for t in lengths),
        "advantages": nested(torch.randn(t, generator=generator) for t in lengths),
        WEIGHT: weight,
    }
    data = TensorDict(columns, batch_size=n)
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=sum(int(m.sum()) for m in masks), global_batch_size=n)
    output = {"log_probs": torch.nested.nested_tensor_from_jagged(leaf, offsets)}
    return data, output, leaf


def local_reference(data, output) -> float:
    """Eq. 15 by a loop, in float64: per prompt (n / G of them) the weighted sum over its rollouts."""
    total = 0.0
    old, masks = data["old_log_probs"].unbind(), data["response_mask"].unbind()
    for row, full in enumerate(output["log_probs"].unbind()):
        if not masks[row].sum():
            continue
        T = len(masks[row])
        new = full.double()[-T - 1 : -1]  # a model's output at a position is about the next token
        rho = (new - old[row].double()).exp()
        total += float(data[WEIGHT][row]) * float((-rho * new).sum()) / T
    return total / (len(masks) / G)


def test_without_local_term_it_is_verls_loss():
    data, output, leaf = batch(8)
    config = actor_config()
    ours, _ = dsdr_loss(output, data, config=config, options=DSDROptions(lambda_l=0.0), group_size=G)
    (gradient,) = torch.autograd.grad(ours, leaf)
    theirs, _ = ppo_loss(config, output, data)
    (expected,) = torch.autograd.grad(theirs, leaf)
    assert torch.equal(ours, theirs) and torch.equal(gradient, expected)


@pytest.mark.parametrize("padding", [0, 3])
def test_local_term_is_subtracted(padding):
    data, output, _ = batch(8, padding=padding)
    config, options = actor_config(), DSDROptions(lambda_l=0.5)
    ours, metrics = dsdr_loss(output, data, config=config, options=options, group_size=G)
    theirs, _ = ppo_loss(config, output, data)
    expected = local_reference(data, output)
    torch.testing.assert_close(float(theirs - ours), 0.5 * expected, atol=1e-5, rtol=1e-5)
    assert metrics["actor/dsdr_local"].aggregate() == pytest.approx(expected, abs=1e-5)


def rows_of(data, output, leaf, index):
    """The micro-batch of some rows, as verl cuts it: non-tensor fields are those of the whole mini-batch."""
    columns = {
        key: nested([value.unbind()[i] for i in index]) if value.is_nested else value[index]
        for key, value in ((key, data[key]) for key in data.keys() if isinstance(data[key], torch.Tensor))  # noqa: SIM118
    }
    part = TensorDict(columns, batch_size=len(index))
    for name in ("dp_size", "batch_num_tokens", "global_batch_size"):
        tu.assign_non_tensor(part, **{name: tu.get_non_tensor_data(data, name, None)})
    log_probs = output["log_probs"].unbind()
    values = torch.cat([log_probs[i] for i in index])
    offsets = torch.tensor([0, *[len(log_probs[i]) for i in index]]).cumsum(0)
    return part, {"log_probs": torch.nested.nested_tensor_from_jagged(values, offsets)}


def test_micro_batches_add_up():
    """Groups split over micro-batches of any size give the loss and gradient of the whole mini-batch."""
    data, output, leaf = batch(8)
    config, options = actor_config(), DSDROptions(lambda_l=0.5)
    whole, metrics = dsdr_loss(output, data, config=config, options=options, group_size=G)
    (expected,) = torch.autograd.grad(whole, leaf, retain_graph=True)
    parts = [
        dsdr_loss(out, part, config=config, options=options, group_size=G)
        for part, out in (rows_of(data, output, leaf, index) for index in ([5, 0, 3], [1], [7, 2, 6, 4]))
    ]
    total = sum(loss for loss, _ in parts)
    (gradient,) = torch.autograd.grad(total, leaf)
    torch.testing.assert_close(total, whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)
    assert {tuple(sorted(m)) for _, m in parts} == {tuple(sorted(metrics))}, "verl needs the same keys everywhere"


def test_ranks_average_to_the_whole():
    """FSDP averages over ranks, so each rank's loss carries a factor dp_size."""
    data, output, leaf = batch(8)
    config, options = actor_config(), DSDROptions(lambda_l=0.5)
    whole, _ = dsdr_loss(output, data, config=config, options=options, group_size=G)
    losses = []
    for index in ([0, 2, 4, 6], [1, 3, 5, 7]):
        part, out = rows_of(data, output, leaf, index)
        tu.assign_non_tensor(part, dp_size=2)
        losses.append(dsdr_loss(out, part, config=config, options=options, group_size=G)[0])
    torch.testing.assert_close(sum(losses) / 2, whole, atol=1e-6, rtol=1e-5)


def test_full_estimator_takes_the_entropy():
    data, output, leaf = batch(8)
    entropy = torch.rand_like(leaf).requires_grad_()
    output["entropy"] = torch.nested.nested_tensor_from_jagged(entropy, output["log_probs"].offsets())
    options = DSDROptions(lambda_l=0.5, local_estimator="full")
    loss, _ = dsdr_loss(output, data, config=actor_config(), options=options, group_size=G)
    (gradient,) = torch.autograd.grad(loss, entropy)
    assert (gradient <= 0).all() and (gradient < 0).any(), "more entropy must lower the loss"
