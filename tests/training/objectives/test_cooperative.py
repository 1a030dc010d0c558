"""Cooperative recovery likelihood: what the energy and its initialiser learn."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.bases import NoisedGaussianMixture
from drl_density.networks import UNet, UNetSettings, guide_by_label
from drl_density.networks.contract import starts_at_base
from drl_density.samplers import (
    ShortRunSettings,
    sample_short_run,
)
from drl_density.testing import assert_z, seeded_generator
from drl_density.training import CooperativeRecovery, LangevinChains, propose
from tests.training.objectives.closed_forms import (
    VARIANCE,
    Slopes,
    conditional_in_y,
    exact,
    image_sequence,
    papers_alpha,
    staying,
    unet,
    with_slopes,
)


def test_energy_and_initialiser_learn_each_from_its_own_loss():
    gradients = {}
    for weight in (0.0, 1.0):
        model = image_sequence(initializer=unet()).train()
        objective = CooperativeRecovery(chains=LangevinChains(num_steps=2, factor=4e-4), initializer_weight=weight)
        torch.manual_seed(0)
        x = torch.randn(12, 64, generator=seeded_generator(1))
        objective(model, x, torch.ones(6), generator=seeded_generator(2)).loss.backward()
        gradients[weight] = model
    for name, parameter in gradients[1.0].network.named_parameters():
        assert torch.equal(parameter.grad, gradients[0.0].network.get_parameter(name).grad), name
    reached = [part.grad for part in gradients[0.0].initializer.parameters() if part.grad is not None]
    assert all(float(gradient.abs().max()) == 0 for gradient in reached)
    assert float(gradients[1.0].initializer.leave.weight.grad.abs().max()) > 0


def test_cooperative_training_of_a_linear_initialiser_finds_the_posterior_mean():
    """Slope a Cov(x_t, x_{t+1}) / Var(x_{t+1}) below the top and 0 at it, within 2 %: the refined states have it."""
    schedule = NoiseSchedule.log_spaced(3, sigma_min=0.5)
    system = exact(schedule)
    model = system.model
    model.initializer = start = Slopes(schedule)
    # s^2 P is 0.65 and 1.87 at the two levels below the top, so 12 steps forget all but 1 % of a proposal.
    objective = CooperativeRecovery(chains=LangevinChains(num_steps=12, factor=0.2), shares_noise=False)
    generator = seeded_generator(7)
    curvature = 2 / 3 * (schedule.alpha.square() * VARIANCE + schedule.sigma.square())[1:]
    found = []
    for _ in range(6):
        x = system.sample(30_000, None, generator=generator)
        objective(model, x, torch.ones(3), generator=generator).loss.backward()
        with torch.no_grad():
            start.slope -= start.slope.grad / curvature
            start.slope.grad = None
        found.append(start.slope.detach().clone())
    mean = torch.stack(found[3:]).mean(0)
    for level in range(2):
        _, slope = conditional_in_y(system, level, objective.chains)
        assert abs(float(mean[level]) / slope - 1) < 0.02, (level, slope)


def test_cooperative_chains_start_at_the_proposal():
    """With no steps the chain ends where it began, so nothing is left to learn for the initialiser."""
    _, model = with_slopes(0.5, dim=3)
    x = torch.randn(64, 3, generator=seeded_generator(1), dtype=torch.float64)
    objective = CooperativeRecovery(chains=LangevinChains(num_steps=0))
    value = objective(model, x, torch.ones(4), generator=seeded_generator(2))
    assert float(value.parts["initializer"]) == 0


def test_the_initialisers_loss_is_the_squared_distance_in_y(monkeypatch):
    """a^2 |x^K - proposal|^2, summed over dimensions and averaged over rows."""
    schedule, model = with_slopes(0.5, dim=3)
    x, offset = torch.randn(2, 64, 3, generator=seeded_generator(1), dtype=torch.float64)
    runs = staying(monkeypatch, offset)
    value = CooperativeRecovery()(model, x, torch.ones(4), generator=seeded_generator(2))
    expected = (papers_alpha(schedule)[runs[0][2]].square() * offset.square().sum(1)).mean()
    assert float(value.parts["initializer"]) == pytest.approx(float(expected), rel=1e-10)
    assert float(value.loss.detach() - value.parts["recovery"]) == pytest.approx(float(expected), rel=1e-10)


def test_proposals_have_the_small_posterior_variance_in_y():
    """a^2 (1 - a^2) sigma_t^2 / sigma_{t+1}^2 around the initialiser's answer, below the top."""
    schedule, model = with_slopes(0.0)
    for level in range(3):
        levels = torch.full((10_000,), level)
        x_noisier = torch.ones(10_000, 1, dtype=torch.float64)
        with torch.no_grad():
            found = propose(model, x_noisier, levels, LangevinChains(), generator=seeded_generator(level))
        a, (sigma, noisier) = schedule.step_alpha[level], schedule.sigma[level : level + 2]
        assert_z(a * found, 0.0)
        assert_z((a * found).square(), a**2 * (1 - a**2) * (sigma / noisier) ** 2)


def test_an_initialiser_that_starts_at_the_base_shifts_its_exact_draws():
    """A new one changes nothing, so proposals given noised draws of the base have the base's law one level down."""
    base = NoisedGaussianMixture(
        torch.tensor([0.3, 0.7]), torch.tensor([[-1.5], [1.0]]).expand(2, 4), torch.full((2, 4), 0.3)
    )
    sizes = UNetSettings((1, 2, 2), num_channels=8, multipliers=(1,), num_blocks=1, starts_at_base=True)
    model = image_sequence(initializer=UNet(sizes)).double()
    model.base, levels = base, torch.arange(6).repeat(1000)
    generator = seeded_generator(2)
    noisier, expected = (
        base.sample_at(model.schedule.log_snr_at(levels + k), 6000, generator=generator) for k in (1, 0)
    )
    with torch.no_grad():
        found = propose(model, noisier.double(), levels, LangevinChains(), generator=seeded_generator(1))
    for power in (1, 2, 4):
        assert_z(found**power - expected.double() ** power, 0.0)
    assert starts_at_base(guide_by_label(model.initializer, 1, 0.5))
    model.base = None
    with pytest.raises(ValueError, match="needs a sequence with a base"):
        propose(model, noisier, levels, LangevinChains())


def test_labels_are_dropped_passed_on_and_guided():
    model = image_sequence(initializer=unet(num_classes=3), num_classes=3).train()
    x, label = torch.randn(12, 64, generator=seeded_generator(1)), torch.arange(12) % 3 + 1
    seen = []
    handle = model.network.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    objective = CooperativeRecovery(chains=LangevinChains(num_steps=1), label_dropout=0.5)
    objective(model, (x, label), torch.ones(6), generator=seeded_generator(3))
    handle.remove()
    given = seen[0]
    assert 0 < int((given == 0).sum()) < 12
    assert torch.equal(given[given > 0], label[given > 0])
    assert torch.equal(seen[-1], torch.cat([given, given]))
    model.eval()
    other = model.with_network(
        guide_by_label(model.network, 2, 1.5), initializer=guide_by_label(model.initializer, 2, 1.5)
    )
    with torch.no_grad():
        own, plain = (model.log_density_at(x, torch.tensor(0.0), torch.tensor(k)) for k in (2, 0))
        assert torch.allclose(other.log_density_at(x, torch.tensor(0.0)), 2.5 * own - 1.5 * plain, rtol=1e-4)
    assert other.is_integrable
    draws = sample_short_run(other, 2, settings=ShortRunSettings(LangevinChains(num_steps=1)))
    assert draws.draws.shape == (2, 64)
