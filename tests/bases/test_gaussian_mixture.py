"""Gaussian mixtures: shapes, forms with and without axes, checks of what is given. The contract has a battery of its own."""

import math

import pytest
import torch

from drl_density.bases import NoisedGaussianMixture
from drl_density.bases.gaussian_mixture import draw_components
from drl_density.testing import assert_z, seeded_generator

WEIGHTS = torch.tensor([0.7, 0.3])
MEANS = torch.tensor([[-1.0, 0.5, 0.0], [1.2, -0.4, 0.8]])


def test_wrong_shapes():
    with pytest.raises(ValueError, match="or variances .K, d., got .2,., .2, 3., .3,."):
        NoisedGaussianMixture(WEIGHTS, MEANS, torch.ones(3))
    with pytest.raises(ValueError, match="positive definite"):
        NoisedGaussianMixture(WEIGHTS, MEANS, torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]))
    with pytest.raises(ValueError, match="weights must be positive and sum to 1, got .0.5, 0.25."):
        NoisedGaussianMixture(torch.tensor([0.5, 0.25]), MEANS, torch.ones(2, 3))
    with pytest.raises(ValueError, match="weights must be positive"):
        NoisedGaussianMixture(torch.tensor([1.0, 0.0]), MEANS, torch.ones(2, 3))


def test_the_standard_normal_is_itself_at_every_level():
    base, x = NoisedGaussianMixture.standard(3), torch.randn(5, 3, generator=seeded_generator(0), dtype=torch.float64)
    truth = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    for log_snr in (-5.0, 0.0, 5.0):
        torch.testing.assert_close(base(x, torch.tensor(log_snr)), truth, rtol=1e-12, atol=1e-12)


def test_an_empty_mixture_has_the_shape_of_its_state():
    for is_diagonal in (True, False):
        base = NoisedGaussianMixture.empty(4, 3, is_diagonal=is_diagonal)
        assert (base.num_components, base.num_features, base.is_diagonal) == (4, 3, is_diagonal)


def test_noise_keeps_the_axes():
    base = NoisedGaussianMixture(WEIGHTS, MEANS, torch.eye(3).expand(2, 3, 3) + 0.3)
    assert torch.equal(base.noised(torch.tensor(0.5)).axes, base.axes)
    assert not torch.equal(base.noised(torch.tensor(0.5)).variances, base.variances)


def test_components_are_drawn_by_their_weights():
    drawn = draw_components(WEIGHTS.log(), 20_000, seeded_generator(1))
    assert_z((drawn == 0).double(), 0.7)


@pytest.mark.parametrize("number", [5, 200])
def test_few_and_many_rows_have_the_density_in_closed_form(number):
    """Many rows are multiplied with all components at once, whose large terms cancel: narrow components show it."""
    factors = torch.randn(40, 3, 3, generator=seeded_generator(2), dtype=torch.float64)
    covariances = factors @ factors.mT * 0.1 + 1e-4 * torch.eye(3)
    means = 3 * torch.randn(40, 3, generator=seeded_generator(3), dtype=torch.float64)
    base = NoisedGaussianMixture(torch.full((40,), 1 / 40), means, covariances)
    x = 2 * torch.randn(number, 3, generator=seeded_generator(4))
    for log_snr in (-1.0, 8.0):
        signal, noise = torch.sigmoid(torch.tensor([log_snr, -log_snr], dtype=torch.float64))
        law = torch.distributions.MultivariateNormal(signal.sqrt() * means, signal * covariances + noise * torch.eye(3))
        rows = x.double().requires_grad_(True)
        truth = law.log_prob(rows[:, None]).logsumexp(1) - torch.tensor(40.0).log()
        given = x.requires_grad_(True)
        found = base(given, torch.tensor(log_snr))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), truth, rtol=1e-5, atol=1e-4)
        slopes = torch.autograd.grad(found.sum(), given)[0].double()
        torch.testing.assert_close(slopes, torch.autograd.grad(truth.sum(), rows)[0], rtol=1e-4, atol=1e-2)


def test_even_mixture_of_mixtures_is_the_mean_of_their_densities():
    diagonal = NoisedGaussianMixture(
        torch.tensor([0.3, 0.7]), torch.tensor([[0.0, 1.0], [2.0, -1.0]]), torch.ones(2, 2)
    )
    full = NoisedGaussianMixture(torch.ones(1), torch.ones(1, 2), torch.tensor([[[1.0, 0.5], [0.5, 2.0]]]))
    x, log_snr = torch.randn(5, 2, generator=seeded_generator(0)), torch.tensor(1.0)
    for parts in ([diagonal, full], [diagonal, diagonal], [full, full]):
        whole = NoisedGaussianMixture.even(parts)
        mean = torch.stack([part(x, log_snr) for part in parts]).logsumexp(0) - math.log(2)
        torch.testing.assert_close(whole(x, log_snr), mean)
        assert whole.is_diagonal == all(part.is_diagonal for part in parts)
    with pytest.raises(ValueError, match="one length"):
        NoisedGaussianMixture.even([diagonal, NoisedGaussianMixture.standard(3)])


def test_kept_exponents_follow_the_buffers_the_level_and_gradients():
    """Exponents are set up once for calls at one level, and never for other buffers, levels or derivatives."""
    covariances = torch.tensor([[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 0.5]]).expand(2, 3, 3)
    base, x = NoisedGaussianMixture(WEIGHTS, MEANS, covariances), torch.randn(6, 3, generator=seeded_generator(5))

    def fresh(log_snr, num_rows=6):
        other = NoisedGaussianMixture.empty(2, 3)
        other.load_state_dict(base.state_dict())
        return other(x[:num_rows], log_snr)

    for level in (1.0, 1.0, 3.0, 3.0, 1.0):
        with torch.inference_mode():
            inside = base(x, torch.tensor(level))
        assert torch.equal(inside, fresh(torch.tensor(level)))  # whatever was called before
        assert torch.equal(base(x[:2], torch.tensor(level)), fresh(torch.tensor(level), 2))
    rows = x.clone().requires_grad_(True)
    assert bool(torch.autograd.grad(base(rows, torch.tensor(1.0)).sum(), rows)[0].isfinite().all())
    at = torch.tensor(1.0, requires_grad=True)
    assert float(torch.autograd.grad(base(x, at).sum(), at)[0].abs()) > 0
    with torch.no_grad():
        base.centers += 1.0
    for _ in range(2):
        torch.testing.assert_close(base(x, torch.tensor(1.0)), fresh(torch.tensor(1.0)))
