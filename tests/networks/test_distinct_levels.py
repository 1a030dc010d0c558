"""Rows on mixed levels: the same values and gradients as one row at a time."""

import pytest
import torch

from drl_density.bases import NoisedGaussianMixture, Tilted
from drl_density.networks import MLP, Ensemble, MLPSettings
from drl_density.networks.distinct_levels import by_row, distinct_levels


def _mlp(seed):
    generator = torch.Generator().manual_seed(seed)
    network = MLP(MLPSettings(3, width=16, num_fourier_features=4), generator=generator).double()
    for part in (network.modulate, network.readout):
        torch.nn.init.normal_(part.weight, generator=generator)
    return network


def _mixture():
    generator = torch.Generator().manual_seed(5)
    factors = torch.randn(2, 3, 3, generator=generator)
    covariances = factors @ factors.mT + torch.eye(3)
    return NoisedGaussianMixture(torch.tensor([0.3, 0.7]), torch.randn(2, 3, generator=generator), covariances)


@pytest.mark.parametrize(
    "network",
    [_mlp(0), Ensemble([_mlp(0), _mlp(1)]), _mixture(), Tilted(_mixture(), _mlp(2))],
    ids=["mlp", "ensemble", "mixture", "tilted"],
)
def test_rows_on_mixed_levels_are_rows_one_by_one(network):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64).requires_grad_(True)
    log_snr = torch.linspace(4, -4, 7, dtype=torch.float64)[torch.randint(7, (40,), generator=generator)]
    together = network(x, log_snr)
    alone = torch.cat([network(row[None], level) for row, level in zip(x, log_snr, strict=True)])
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-12)
    wanted = [x, *network.parameters()]
    for one, other in zip(
        torch.autograd.grad(together.square().sum(), wanted),
        torch.autograd.grad(alone.square().sum(), wanted),
        strict=True,
    ):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10 * float(other.abs().max()))


def test_each_level_once_and_every_row_finds_its_own():
    log_snr = torch.tensor([2.0, -1.0, 2.0, 0.5])
    levels, row_level = distinct_levels(log_snr)
    assert len(levels) == 3
    assert torch.equal(by_row(levels, row_level), log_snr)
    assert distinct_levels(torch.tensor(1.0))[1] is None


def test_levels_can_be_differentiated():
    """Each row's level has the derivative that it has alone, where rows share levels too."""
    network = _mixture()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    log_snr = torch.tensor([0.5, -1.0, 0.5, 2.0], dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda level: network(x, level), (log_snr,), rtol=1e-4)
    (together,) = torch.autograd.grad(network(x, log_snr).sum(), log_snr)
    alone = [torch.autograd.grad(network(row[None], level), level)[0] for row, level in zip(x, log_snr, strict=True)]
    assert torch.allclose(together, torch.stack(alone), rtol=1e-12)
