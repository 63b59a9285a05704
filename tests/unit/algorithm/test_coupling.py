import math

import numpy as np
import pytest
import torch

from dsdr_verl.algorithm.coupling import coupling_entropy, coupling_weights, effective_rollouts

from . import reference
from .batches import random_batch


@pytest.mark.parametrize("tau", [0, 1, 5, 10])
@pytest.mark.parametrize("seed", range(10))
def test_weights_entropy_and_effective_rollouts(seed, tau):
    batch = random_batch(seed)
    d_bar = torch.rand(len(batch.group), generator=torch.Generator().manual_seed(seed))
    w = coupling_weights(d_bar, batch.solved, batch.group, tau)
    expected = reference.coupling_weights(d_bar.tolist(), batch.solved.tolist(), batch.group.tolist(), tau)
    assert w.dtype == torch.float32
    np.testing.assert_allclose(w, expected, rtol=1e-6)
    assert w[~batch.solved].eq(0).all()

    entropy, effective = coupling_entropy(w, batch.group), effective_rollouts(w, batch.group)
    for g in range(int(batch.group.max()) + 1):
        inside = expected[(batch.group.numpy() == g) & batch.solved.numpy()]
        assert inside.sum() == pytest.approx(1 if len(inside) else 0)
        assert entropy[g].item() == pytest.approx(-sum(x * math.log(x) for x in inside), abs=1e-6)
        assert effective[g].item() == pytest.approx(1 / sum(inside**2) if len(inside) else 0, rel=1e-6)
        assert effective[g] <= len(inside) + 1e-6


def test_tau_zero_is_uniform_over_the_correct_set():
    w = coupling_weights(torch.rand(6), torch.tensor([1, 1, 0, 1, 1, 0]).bool(), torch.tensor([0, 0, 0, 1, 0, 1]), 0)
    third = torch.tensor(1 / 3)
    assert w.equal(torch.stack([third, third, 0 * third, torch.tensor(1.0), third, 0 * third]))


def test_a_larger_tau_concentrates_on_the_most_distinctive_and_never_overflows():
    d_bar, everyone, group = torch.tensor([0.1, 0.5, 0.9]), torch.ones(3).bool(), torch.zeros(3).long()
    shares = [coupling_weights(d_bar, everyone, group, tau)[2].item() for tau in (0, 1, 5, 10, 1e3, 1e6)]
    assert shares == sorted(shares) and shares[-1] == 1


def test_what_is_not_correct_is_not_read():
    d_bar = torch.tensor([0.2, torch.nan, torch.inf])
    w = coupling_weights(d_bar, torch.tensor([True, False, False]), torch.zeros(3).long(), 5)
    assert w.tolist() == [1, 0, 0]
