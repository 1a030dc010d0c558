"""A layered base: its levels against closed forms, draws of every level, and sequences that lean on it."""

import math

import pytest
import torch
from torch import nn

from drl_density.bases import (
    AutoregressiveFlow,
    AutoregressiveFlowSettings,
    LayeredBase,
    NoisedGaussianMixture,
    Tail,
    base_from_state,
)
from drl_density.model import EnergySequence
from drl_density.networks import ColumnTilt, ColumnTiltSettings
from drl_density.partition_function import AISSettings, anneal, plan_annealing, sequence_path
from drl_density.partition_function.importance import (
    base_draws,
    base_path,
    checked_importance_sampling,
    importance_sampling,
)
from drl_density.schedule import NoiseSchedule
from drl_density.testing import assert_z, seeded_generator
from drl_density.training.objectives.reference_contrast import ReferenceContrast
from drl_density.weights import log_mean_exp
from tests.bases.members import members
from tests.bases.test_contract import Uniform

SCHEDULE = NoiseSchedule.log_spaced(6, sigma_min=0.1)
LOG_SNR = float(SCHEDULE.log_snr_at(0))


def layered():
    """A narrow mixture without noise over a wide Gaussian under noise, so that a confusion of the two shows."""
    clean = members(2)["full mixture"]
    noisy = NoisedGaussianMixture(torch.ones(1), torch.tensor([[0.5, -0.5]]), torch.tensor([[[2.0, 0.3], [0.3, 1.5]]]))
    return LayeredBase(clean, noisy, LOG_SNR)


def sequence(scale=0.0, seed=0):
    """A sequence on the layered base with a tilt whose readout is drawn at the given scale."""
    network = ColumnTilt(ColumnTiltSettings(2, width=16), generator=seeded_generator(seed))
    for weight in network.parameters():
        if not bool(weight.any()):
            nn.init.normal_(weight, std=scale, generator=seeded_generator(seed + 1))
    return EnergySequence(SCHEDULE, network, (2,), base=layered(), generator=seeded_generator(seed))


def rows(count=7, seed=3):
    return torch.randn(count, 2, generator=seeded_generator(seed), dtype=torch.float64)


def test_level_zero_is_the_clean_density_without_noise():
    base, x = layered(), rows()
    for log_snr in (LOG_SNR, LOG_SNR + 3, math.inf):
        assert torch.equal(base(x, torch.tensor(log_snr, dtype=torch.float64)), base.clean.log_prob(x))
    assert torch.equal(base.log_prob(x), base.clean.log_prob(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_boundary_is_the_same_in_either_precision(dtype):
    base, x = layered(), rows()
    assert torch.equal(base(x, SCHEDULE.log_snr_at(0).to(dtype)), base.clean.log_prob(x))
    assert torch.equal(sequence().log_density(x.to(dtype), 0), base.clean.log_prob(x.to(dtype)))


def test_every_noisier_level_is_the_noised_form_of_the_other_density():
    base, x = layered(), rows()
    for level in (1e-3, 0.5, 1.0, 6.0):
        log_snr = SCHEDULE.log_snr_at(level)
        alpha2, sigma2 = torch.sigmoid(log_snr), torch.sigmoid(-log_snr)
        covariance = alpha2 * torch.tensor([[2.0, 0.3], [0.3, 1.5]]).double() + sigma2 * torch.eye(2).double()
        truth = torch.distributions.MultivariateNormal(alpha2.sqrt() * torch.tensor([0.5, -0.5]).double(), covariance)
        # The parameters are rounded to float32.
        torch.testing.assert_close(base(x, log_snr), truth.log_prob(x), rtol=0, atol=2e-6)
        torch.testing.assert_close(base.noised(log_snr).log_prob(x), truth.log_prob(x), rtol=0, atol=2e-6)
    assert base.noised(SCHEDULE.log_snr_at(0)) is base.clean


def test_rows_on_many_levels_and_their_gradients():
    base, x = layered(), rows(6).requires_grad_()
    log_snr = SCHEDULE.log_snr_at(torch.tensor([0.0, 2.0, 0.0, 0.0, 1.0, 6.0]))
    alone = torch.cat([base(row[None], value) for row, value in zip(x, log_snr, strict=True)])
    torch.testing.assert_close(base(x, log_snr), alone, rtol=1e-12, atol=1e-12)
    one, two = (torch.autograd.grad(values.sum(), x)[0] for values in (base(x, log_snr), alone))
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_draws_of_every_level_have_its_density():
    """Moments of draws on levels 0, 2 and 5, asked for together and alone, against the closed forms."""
    base = layered()
    levels = torch.tensor([0.0, 2.0, 5.0]).repeat(20_000)
    together = base.sample_at(SCHEDULE.log_snr_at(levels), 60_000, generator=seeded_generator(5))
    for level in (0.0, 2.0, 5.0):
        density = base.clean if level == 0 else base.noisy.noised(SCHEDULE.log_snr_at(level))
        weights, means = density.log_weights.exp().double(), torch.einsum("kde,ke->kd", density.axes, density.centers)
        mean = weights @ means.double()
        second = torch.einsum("k,kde->de", weights, density.covariances().double() + means[:, :, None] * means[:, None])
        alone = base.sample_at(SCHEDULE.log_snr_at(level), 20_000, generator=seeded_generator(6))
        for drawn in (together[levels == level].double(), alone.double()):
            assert_z(drawn, mean)
            assert_z(drawn[:, 0] * drawn[:, 1], second[0, 1])
            assert_z(drawn[:, 0] ** 2, second[0, 0])


def test_equal_seeds_give_equal_draws():
    log_snr = SCHEDULE.log_snr_at(torch.tensor([0.0, 3.0, 0.0]))
    one, two, other = (layered().sample_at(log_snr, 3, generator=seeded_generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_what_is_known_of_the_parts():
    base = layered()
    clean, noisy = SCHEDULE.log_snr_at(0), SCHEDULE.log_snr_at(2)
    assert base.num_components == 2
    assert torch.equal(base.covariances(), base.clean.covariances())
    assert torch.equal(base.covariances(clean), base.clean.covariances())
    assert torch.equal(base.covariances(noisy), base.noisy.covariances(noisy))
    assert torch.equal(base.expected_error(noisy), base.noisy.expected_error(noisy))
    x, nothing = rows(), torch.zeros(7, 2, dtype=torch.bool)
    for log_snr in (clean, noisy):
        density = base.conditional(log_snr).observed_log_density(x, nothing)
        torch.testing.assert_close(density, base(x, log_snr), rtol=0, atol=1e-6)


def test_the_tail_is_known_where_both_are():
    assert layered().tail is Tail.QUADRATIC
    assert LayeredBase(Uniform(), NoisedGaussianMixture.standard(1), 6.0).tail is Tail.UNKNOWN


def test_densities_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one length.*NoisedGaussianMixture of length 2"):
        LayeredBase(NoisedGaussianMixture.standard(2), NoisedGaussianMixture.standard(3), 6.0)
    with pytest.raises(ValueError, match="with noised forms.*Uniform of length 1"):
        LayeredBase(NoisedGaussianMixture.standard(1), Uniform(), 6.0)


def test_a_flow_over_a_mixture_is_saved_and_read():
    flow = AutoregressiveFlow(AutoregressiveFlowSettings(2, width=8), generator=seeded_generator(0))
    for tensor in flow.weights():
        tensor.add_(0.3 * torch.randn(tensor.shape, generator=seeded_generator(1)))
    base, x = LayeredBase(flow, layered().noisy, LOG_SNR), rows()
    again = base_from_state(base.to_state())
    again.load_state_dict(base.state_dict())
    for level in (0, 1):
        log_snr = SCHEDULE.log_snr_at(level)
        assert torch.equal(again(x, log_snr), base(x, log_snr))
    with pytest.raises(NotImplementedError, match="AutoregressiveFlow has no conditional"):
        base.conditional()


def test_importance_sampling_draws_from_the_base_of_its_level():
    """log Z of every level by quadrature, where draws of the other density would be far off."""
    model = sequence(scale=0.5)
    axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    for level in (0.0, 2.0):
        with torch.no_grad():
            truth = model.log_density(points, level).logsumexp(0) + 2 * math.log(float(axis[1] - axis[0]))
        found = importance_sampling(model, level=level, num_samples=40_000, generator=seeded_generator(7))
        assert_z(torch.tensor(found.log_z), float(truth), found.standard_error)
    drawn = base_draws(model, 1000, 0.0, seeded_generator(8))
    assert torch.equal(drawn, model.base.clean.sample(1000, generator=seeded_generator(8)))


def test_annealing_agrees_along_the_tilt_and_along_the_noise():
    """The untrained sequence is normalised: log Z = 0 through the jump from the noisy density to the clean one."""
    model = sequence(scale=0.5)
    small = AISSettings(num_particles=128, num_replicates=4)
    checked, excess = checked_importance_sampling(
        model, num_samples=20_000, num_bridges=8, settings=small, generator=seeded_generator(9)
    )
    assert checked.verdict.is_reliable
    assert excess == 0
    assert base_path(model, num_bridges=2).base.level == 0
    plain = sequence()
    settings = AISSettings(num_particles=512, num_replicates=8, num_transitions=2)
    path = sequence_path(plain, steps_per_level=2)
    plan = plan_annealing(path, settings, generator=seeded_generator(10))
    run = anneal(path, plan, settings, generator=seeded_generator(11))
    weights = run.log_weights.reshape(settings.num_replicates, -1)
    assert_z(log_mean_exp(weights, dim=1).exp(), 1.0)


class Recorder(nn.Module):
    """A tilt of zero that keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), None

    def forward(self, x, log_snr):
        self.seen = x.detach(), log_snr
        return self.weight * x.sum(1)


def test_contrast_draws_negatives_from_the_base_of_their_level():
    model = EnergySequence(SCHEDULE, Recorder(), (2,), base=layered(), is_integrable=True)
    ReferenceContrast(num_negatives=2)(model, torch.zeros(9000, 2), torch.ones(6), generator=seeded_generator(12))
    x, log_snr = model.network.seen
    x, is_clean = x[9000:].double(), model.base.is_clean(log_snr[9000:])
    assert int(is_clean.sum()) == 2 * 6300
    mixture = model.base.clean
    mean = mixture.log_weights.exp() @ torch.einsum("kde,ke->kd", mixture.axes, mixture.centers)
    assert_z(x[is_clean], mean.double())
    alpha = torch.sigmoid(log_snr[9000:][~is_clean].double()).sqrt()
    assert_z(x[~is_clean] - alpha[:, None] * torch.tensor([0.5, -0.5]), torch.zeros(2).double())
    # The second moment of the noised wide Gaussian, far from that of the clean mixture.
    centred = (x[~is_clean] - alpha[:, None] * torch.tensor([0.5, -0.5])) ** 2
    assert_z(centred[:, 0] - alpha**2 * 2.0 - (1 - alpha**2), 0.0)
