"""Denoising score matching on closed forms, and end to end."""

import pytest
import torch
from torch import nn

from drl_density import DenoisingObjective, EnergySequence, FitSettings, NoiseSchedule, TrainingSettings
from drl_density.bases import NoisedGaussianMixture, QuadraticBase
from drl_density.density.fitting.build import build_objective
from drl_density.networks import guide_by_label
from drl_density.testing import assert_z, gaussian_sequence, seeded_generator
from drl_density.training import DenoisingScoreMatching, Evaluation, train
from drl_density.training.objectives.objective import drop_labels
from tests.training.small_runs import SCALE, WEIGHT, draw, evaluation, fresh, settings

VARIANCE, NUM_ROWS = 0.5, 20_000


class Tilt(nn.Module):
    """g = theta x^2 / 2."""

    has_bounded_growth = False

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x, log_snr):
        return 0.5 * self.theta * x.square().sum(1)


def tilted(theta):
    """The exact sequence of N(0, 1/2) with its energies bent by ``theta``."""
    system = gaussian_sequence(torch.zeros(1), torch.full((1, 1), VARIANCE), NoiseSchedule.log_spaced(4))
    model = system.model.with_network(Both(system.model.network, Tilt(theta)))
    return model, VARIANCE**0.5 * torch.randn(NUM_ROWS, 1, generator=seeded_generator(0), dtype=torch.float64)


class Both(nn.Module):
    has_bounded_growth = False

    def __init__(self, exact, tilt):
        super().__init__()
        self.exact, self.tilt = exact, tilt

    def forward(self, x, log_snr):
        return self.exact(x, log_snr) + self.tilt(x, log_snr)


@pytest.mark.parametrize("level", [0.0, 1.5, 3.0])
def test_the_loss_at_the_truth_is_what_noise_leaves_open(level):
    """Var(eps | x_t) = a^2 v / (a^2 v + s^2), times half the width of the level in log-SNR."""
    model, x = tilted(0.0)
    found = DenoisingScoreMatching().by_row(model, x, torch.full((NUM_ROWS,), level), generator=seeded_generator(1))
    alpha, sigma = model.schedule.alpha_at(level), model.schedule.sigma_at(level)
    width = model.schedule.log_snr_at(level) - model.schedule.log_snr_at(level + 1)
    signal = alpha**2 * VARIANCE
    assert_z(found.detach(), 0.5 * width * signal / (signal + sigma**2))


@pytest.mark.parametrize(("theta", "sign"), [(0.0, 0), (0.5, 1), (-0.5, -1)])
def test_the_gradient_is_zero_at_the_truth_and_points_to_it(theta, sign):
    model, x = tilted(theta)
    objective, slopes = DenoisingScoreMatching(), []
    for rows, generator in zip(x.split(200), map(seeded_generator, range(100, 200)), strict=True):
        loss = objective.by_row(model, rows, torch.full((len(rows),), 2.0), generator=generator).mean()
        slopes.append(torch.autograd.grad(loss, model.network.tilt.theta)[0])
    slopes = torch.stack(slopes)
    if sign == 0:
        assert_z(slopes, 0.0)
    else:
        assert sign * float(slopes.mean() / (slopes.std() / len(slopes) ** 0.5)) > 4.5


def test_two_modes_are_learned_with_their_weights():
    """Classification weighs the modes, which the scores alone do not: total variation below 0.05, weight within 0.03.

    Few steps at a high rate are enough; without classification the weight is off by 0.05.
    """
    state = fresh()
    train(
        state,
        DenoisingScoreMatching(),
        draw,
        settings=settings(num_steps=300, batch_size=128, evaluate_every=300, learning_rate=1e-2),
        evaluation=evaluation(),
    )
    grid = torch.linspace(-3, 3, 2001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        values = state.averaged_model.log_density(grid, 0)
    model = (values - values.logsumexp(0)).exp()
    parts = [torch.distributions.Normal(center, (SCALE**2 * 0.9975 + 0.0025) ** 0.5) for center in (-1.0, 0.6)]
    truth = sum(w * p.log_prob(grid[:, 0]).exp() for w, p in zip((WEIGHT, 1 - WEIGHT), parts, strict=True)) * 6 / 2000
    assert float((model - truth).abs().sum() / 2) < 0.05
    assert abs(float(model[grid[:, 0] < -0.2].sum()) - WEIGHT) < 0.03


def test_there_are_no_chains():
    """Statistics of chains are not seen rather than made up, step sizes stay, and the settings build the objective."""
    state = fresh()
    before = state.step_sizes.clone()
    sizes = settings(num_steps=4, evaluate_every=4)
    train(state, DenoisingScoreMatching(), draw, settings=sizes, evaluation=Evaluation(draw(64, seeded_generator(1))))
    assert torch.equal(state.step_sizes, before)
    assert all(rate != rate for rate in state.history[0]["acceptance_rate"])
    assert state.history[0]["complaints"] == []
    built = build_objective(DenoisingObjective(classification_share=0.5, classification_weight=2.0))
    assert built == DenoisingScoreMatching(classification_weight=2.0, classification_share=0.5)


@pytest.mark.parametrize("base", ["mixture", "quadratic"])
def test_the_base_predicts_its_own_loss(base):
    """What the base expects of its scores is what draws of its own show, one component at a time."""
    generator = seeded_generator(0)
    if base == "mixture":
        covariance = torch.tensor([[1.0, 0.4], [0.4, 0.3]], dtype=torch.float64)
        fixed = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 2), covariance[None])
        x = torch.randn(NUM_ROWS, 2, generator=generator).double() @ torch.linalg.cholesky(covariance).mT
    else:
        fixed = QuadraticBase(2, 1.7)
        x = 1.7 * torch.randn(NUM_ROWS, 2, generator=generator).double()
    for log_snr in torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64):
        alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        noise = torch.randn(NUM_ROWS, 2, generator=generator).double()
        noised = (alpha * x + sigma * noise).requires_grad_(True)
        (score,) = torch.autograd.grad(fixed(noised, log_snr).sum(), noised)
        assert_z((sigma * score + noise).square().sum(1), fixed.expected_error(log_snr))
    both = NoisedGaussianMixture(torch.tensor([0.25, 0.75]), torch.zeros(2, 1), torch.tensor([[[1.0]], [[4.0]]]))
    assert float(both.expected_error(torch.zeros(()))) == pytest.approx(0.25 * 0.5 + 0.75 * 0.8)


def test_levels_are_balanced_by_what_the_base_expects():
    """The losses are the plain ones times (L_t / mean L)^-p."""
    state, x = fresh(), draw(4000, seeded_generator(0))
    model, levels = state.model, torch.arange(4000).double() % state.model.num_levels
    plain, half, whole = (
        DenoisingScoreMatching(level_balance=p).by_row(model, x, levels, generator=seeded_generator(1)).detach()
        for p in (0.0, 0.5, 1.0)
    )
    each = model.base.expected_error(model.schedule.log_snr_at(torch.arange(model.num_levels).double()))
    weight = (each / each.mean()) ** -0.5
    assert torch.allclose(half, plain * weight[levels.long()].to(plain), rtol=1e-5)
    assert torch.allclose(half.square(), plain * whole, rtol=1e-5)
    assert float(weight.max() / weight.min()) > 1.5


class Told(nn.Module):
    """g = c . x with a slope of its own for every label, 0 to 2."""

    has_bounded_growth = True

    def __init__(self):
        super().__init__()
        self.slopes = nn.Embedding(3, 2)

    def forward(self, x, log_snr, label=None):
        label = torch.zeros(len(x), dtype=torch.long) if label is None else label
        return (x * self.slopes(label)).sum(1)


def labelled_rows(num_rows):
    """Rows and labels 1 or 2, and a sequence whose network knows them."""
    generator = seeded_generator(3)
    model = EnergySequence(NoiseSchedule.log_spaced(4), Told(), (2,), generator=generator)
    return model, torch.randn(num_rows, 2, generator=generator), 1 + torch.arange(num_rows) % 2


def test_a_label_is_matched_by_its_own_energy():
    model, x, label = labelled_rows(64)
    position = torch.arange(64).double() % 4
    found = DenoisingScoreMatching().by_row(model, x, position, label=label, generator=seeded_generator(0)).detach()
    for place in (1, 2):
        alone = model.with_network(guide_by_label(model.network, place, 0.0))
        wanted = DenoisingScoreMatching().by_row(alone, x, position, generator=seeded_generator(0)).detach()
        torch.testing.assert_close(found[label == place], wanted[label == place])
        assert float((found - wanted)[label != place].abs().min()) > 1e-4


@pytest.mark.parametrize(("chance", "reached"), [(0.0, [False, True, True]), (1.0, [True, False, False])])
def test_labels_are_dropped_by_chance(chance, reached):
    model, x, label = labelled_rows(64)
    DenoisingScoreMatching(0.0, label_dropout=chance)(model, (x, label), torch.ones(4)).loss.backward()
    assert (model.network.slopes.weight.grad.abs().sum(1) > 0).tolist() == reached
    dropped = drop_labels(torch.full((10_000,), 2), 0.25, generator=seeded_generator(0))
    assert set(dropped.tolist()) == {0, 2}
    assert_z((dropped == 0).double(), 0.25)
    assert drop_labels(None, 0.25) is None


def test_what_score_matching_refuses():
    with pytest.raises(ValueError, match="label_dropout must lie in"):
        DenoisingScoreMatching(label_dropout=1.5)
    with pytest.raises(ValueError, match="level_balance must lie in"):
        DenoisingScoreMatching(level_balance=-0.1)
    with pytest.raises(ValueError, match="level_balance must lie in"):
        DenoisingObjective(level_balance=2.0)
    with pytest.raises(ValueError, match="differentiates twice"):
        FitSettings(objective=DenoisingObjective(), training=TrainingSettings(is_compiled=True))
    model, x = tilted(0.0)
    with pytest.raises(ValueError, match="this sequence has none"):
        DenoisingScoreMatching(0.0, level_balance=0.5)(model, x[:8], torch.ones(4))
    assert build_objective(DenoisingObjective(level_balance=0.5)).level_balance == 0.5
