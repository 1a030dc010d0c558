"""The energy sequence: score, denoiser, levels, recovery, integrability."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.bases import NoisedGaussianMixture, QuadraticBase, Tail
from drl_density.model import EnergySequence, LevelLogDensity
from drl_density.networks import MLP, MLPSettings
from drl_density.testing import GaussianMixtureSequence, seeded_generator

SYSTEM = GaussianMixtureSequence.example(dim=3, schedule=NoiseSchedule.log_spaced(6))


def trained_like(seed=0, **sizes):
    """A network whose readout is not zero, in float64."""
    generator = seeded_generator(seed)
    network = MLP(MLPSettings(3, width=16, **sizes), generator=generator)
    torch.nn.init.normal_(network.readout.weight, std=0.3, generator=generator)
    return EnergySequence(NoiseSchedule.log_spaced(4), network, (3,), dtype=torch.float64)


MODELS = {
    "closed form": lambda: SYSTEM.model,
    "mlp": trained_like,
    "fourier": lambda: trained_like(num_fourier_features=8),
}


@pytest.mark.parametrize("name", MODELS)
def test_score_is_the_gradient(name):
    model = MODELS[name]()
    x = torch.randn(4, 3, generator=seeded_generator(1), dtype=torch.float64)
    step = 1e-6
    for axis in range(3):
        move = step * torch.eye(3, dtype=torch.float64)[axis]
        difference = (model.log_density(x + move, 1.3) - model.log_density(x - move, 1.3)) / (2 * step)
        # Central differences: truncation of order step^2 = 1e-12 times third derivatives (< 1e3 here), and rounding
        # 1e-16 * 10 / 1e-6 = 1e-9; 1e-6 leaves room for both.
        torch.testing.assert_close(model.score(x, 1.3)[:, axis].detach(), difference.detach(), rtol=1e-6, atol=1e-6)


def test_tweedie_denoiser_is_exact():
    x = SYSTEM.sample(6, 2, generator=seeded_generator(2))
    torch.testing.assert_close(SYSTEM.model.denoise(x, 2), SYSTEM.denoise(x, 2), rtol=1e-8, atol=1e-10)


def test_log_density_is_log_prob_plus_its_offset():
    for level in (0, 1.7, 5):
        x = SYSTEM.sample(6, level, generator=seeded_generator(3))
        gap = SYSTEM.model.log_density(x, level) - SYSTEM.log_prob(x, level)
        torch.testing.assert_close(gap, SYSTEM.log_z(level).expand(6), rtol=1e-10, atol=1e-10)


def test_recovery_is_bayes_rule():
    """log r(x) - log p(x | x') is one constant over x, for each x'."""
    x_noisier = SYSTEM.sample(2, 3, generator=seeded_generator(4))
    x = torch.randn(50, 2, 3, generator=seeded_generator(5), dtype=torch.float64)
    conditional = SYSTEM.model.recovery(2).condition(x_noisier)
    gap = conditional.log_prob(x) - SYSTEM.recovery(x_noisier, 2).log_prob(x)
    torch.testing.assert_close(gap, gap[:1].expand_as(gap), rtol=1e-9, atol=1e-9)


def test_one_level_for_all_rows_equals_one_per_row():
    model = trained_like()
    x = torch.randn(5, 3, generator=seeded_generator(6), dtype=torch.float64)
    torch.testing.assert_close(
        model.log_density(x, 1.5), model.log_density(x, torch.full((5,), 1.5)), rtol=1e-10, atol=0
    )


def test_a_new_model_is_its_base():
    model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(3)), (3,), dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(model.log_density(x, 0), model.top.log_prob(x), rtol=1e-10, atol=0)
    torch.testing.assert_close(model.log_normalizers, torch.zeros(4).double(), rtol=0, atol=0)


def test_truncation_keeps_the_densities():
    model = trained_like()
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(model.truncate(1.5).log_density(x, 0), model.log_density(x, 1.5), rtol=1e-10, atol=0)


def test_network_grows_at_most_linearly():
    """Far out, doubling x at most doubles the output (up to a vanishing share): the quadratic base always wins."""
    model = trained_like(num_fourier_features=8)
    direction = torch.randn(20, 3, generator=seeded_generator(7), dtype=torch.float64)
    log_snr = torch.zeros(20, dtype=torch.float64)
    near, far = (model.network(scale * direction, log_snr).abs() for scale in (1e5, 2e5))
    assert bool((far <= 2.01 * near + 1.0).all())
    assert model.is_integrable
    assert not EnergySequence(NoiseSchedule.log_spaced(2), torch.nn.Identity(), (3,)).is_integrable


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="expected rows of event shape"):
        SYSTEM.model.log_density(torch.zeros(4, 2), 0)
    with pytest.raises(ValueError, match="ending in event shape"):
        SYSTEM.model.recovery(0).condition(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="vectors of length 3"):
        trained_like().network(torch.zeros(2, 5).double(), torch.zeros(2).double())
    with pytest.raises(ValueError, match="level must lie in"):
        SYSTEM.model.level(9)


def test_labels_reach_the_network_alone():
    class Labelled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x, log_snr, label=None):
            return self.scale * (torch.zeros(len(x)) if label is None else label.expand(len(x)).float())

    model = EnergySequence(NoiseSchedule.log_spaced(4), Labelled(), (3,))
    x, log_snr = torch.zeros(2, 3), torch.tensor(0.0)
    plain = model.log_density_at(x, log_snr)
    assert torch.equal(model.log_density_at(x, log_snr, torch.tensor(2)), plain + 2)
    assert torch.equal(model.log_density_at(x, log_snr, torch.tensor([0, 1])), plain + torch.tensor([0.0, 1.0]))


def test_complex_rows_are_refused():
    with pytest.raises(ValueError, match="expected real rows"):
        SYSTEM.model.log_density(torch.zeros(4, 3, dtype=torch.complex64), 0)


def test_the_score_can_be_differentiated():
    """Second derivatives through the score against finite differences of it."""
    model = trained_like()
    x = torch.randn(3, 3, generator=seeded_generator(8), dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda point: model.score(point, 1.2, has_graph=True), (x,), atol=1e-6)
    assert not model.score(x, 1.2).requires_grad
    (gradient,) = torch.autograd.grad(
        model.score(x.detach(), 1.2, has_graph=True).square().sum(), model.network.readout.weight
    )
    assert float(gradient.abs().max()) > 0


def test_parts_declare_whether_a_sequence_is_integrable():
    schedule, network = NoiseSchedule.log_spaced(2), MLP(MLPSettings(3, width=8))
    assert EnergySequence(schedule, network, (3,)).is_integrable
    assert not EnergySequence(schedule, network, (3,), has_base=False).is_integrable
    assert EnergySequence(schedule, NoisedGaussianMixture.standard(3), (3,), has_base=False, dtype=None).is_integrable
    assert EnergySequence(schedule, network, (3,), has_base=False, is_integrable=True).is_integrable

    class Unknown(QuadraticBase):
        tail = Tail.UNKNOWN

    assert not EnergySequence(schedule, network, (3,), base=Unknown(3, 1.0)).is_integrable


def test_another_network_shares_the_other_parts():
    model = trained_like()
    other = model.with_network(MLP(MLPSettings(3, width=8)).double())
    assert (other.base, other.constants, other.schedule) == (model.base, model.constants, model.schedule)
    assert other.initializer is None
    assert other.network is not model.network


def test_the_recovery_scale_is_that_of_a_standard_normal_marginal():
    """Precision a^2 / s^2 of the step plus 1 / sigma^2 of the level."""
    recovery = SYSTEM.model.recovery(2, noisier=4)
    a, s = map(float, SYSTEM.schedule.step_between(2, 4))
    sigma = float(SYSTEM.schedule.sigma_at(2))
    assert recovery.scale == pytest.approx(1 / (a**2 / s**2 + 1 / sigma**2) ** 0.5)
    assert SYSTEM.model.recovery(5).noisier == 6


def test_level_log_densities_have_the_networks_parameters():
    model = trained_like()
    density = LevelLogDensity(model, 1.5)
    x = torch.randn(2, 3, generator=seeded_generator(9), dtype=torch.float64)
    assert torch.equal(density(x), model.log_density(x, 1.5))
    assert [id(part) for part in density.parameters()] == [id(part) for part in model.network.parameters()]
