"""Contrast with the base's draws: the optimum, its value, and sequences that cannot be contrasted."""

import math

import pytest
import torch
from torch import nn

from drl_density import EnergySequence, NoiseSchedule
from drl_density.bases import NoisedGaussianMixture
from drl_density.networks import ColumnTilt, ColumnTiltSettings
from drl_density.partition_function.importance import importance_sampling
from drl_density.testing import assert_z, seeded_generator
from drl_density.training import Doctor, Evaluation, TrainingSettings, new_state, train
from drl_density.training.objectives.reference_contrast import ReferenceContrast

SCHEDULE = NoiseSchedule.log_spaced(4, sigma_min=0.02)


def standard():
    return NoisedGaussianMixture.standard(1)


class Exact(nn.Module):
    """The optimal tilt of data N(m, 1) over the base N(0, 1): at every level a m x - (a m)^2 / 2."""

    is_bounded = has_bounded_growth = False

    def __init__(self, mean):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))

    def forward(self, x, log_snr):
        shift = torch.sigmoid(log_snr).sqrt() * self.mean
        return shift * x[:, 0] - shift**2 / 2


class Zero(nn.Module):
    is_bounded = True

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))

    def forward(self, x, log_snr):
        return self.zero * x[:, 0]


def gaussian_rows(count, mean, seed):
    return mean + torch.randn(count, 1, generator=seeded_generator(seed))


@pytest.mark.parametrize("count", [1, 3])
def test_an_untilted_model_scores_the_entropy_of_guessing(count):
    """With g = 0 the loss is log(1 + nu) + nu log(1 + 1 / nu), whatever the data."""
    model = EnergySequence(SCHEDULE, Zero(), (1,), base=standard())
    value = ReferenceContrast(count)(model, gaussian_rows(64, 2.0, 0), torch.ones(4), generator=seeded_generator(1))
    assert float(value.loss.detach()) == pytest.approx(math.log(1 + count) + count * math.log(1 + 1 / count), rel=1e-5)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("clean_share", [0.3, 1.0])
def test_the_gradient_is_zero_at_the_truth(count, clean_share):
    """Data N(0.8, 1) over N(0, 1): the derivative in the mean has expectation 0 at 0.8 and not elsewhere."""

    def gradients(mean):
        model = EnergySequence(SCHEDULE, Exact(mean), (1,), base=standard())
        objective, found = ReferenceContrast(count, clean_share), []
        for seed in range(60):
            loss = objective(model, gaussian_rows(400, 0.8, seed), torch.ones(4), generator=seeded_generator(seed)).loss
            found.append(torch.autograd.grad(loss, model.network.mean)[0].detach())
        return torch.stack(found)

    assert_z(gradients(0.8), 0.0)
    with pytest.raises(AssertionError, match="beyond"):
        assert_z(gradients(0.5), 0.0)


class Scaled(nn.Module):
    """A multiple of the optimal tilt log q - log b between two mixtures, and a constant: the optimum is at (1, 0)."""

    is_bounded = has_bounded_growth = False

    def __init__(self, data, base, at):
        super().__init__()
        self.data, self.base, self.at = data, base, nn.Parameter(torch.tensor(at))

    def forward(self, x, log_snr):
        return self.at[0] * (self.data(x, log_snr) - self.base(x, log_snr)) + self.at[1]


def test_the_optimum_between_two_mixtures_is_their_log_ratio_at_every_level():
    base = NoisedGaussianMixture(torch.tensor([0.4, 0.6]), torch.tensor([[-1.0, 0.0], [0.8, 0.5]]), torch.full((2, 2), 2.0))
    data = NoisedGaussianMixture(torch.tensor([0.3, 0.7]), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.full((2, 2), 0.4))

    def gradients(at):
        model, found = EnergySequence(SCHEDULE, Scaled(data, base, at), (2,), base=base), []
        for seed in range(40):
            rows = data.sample(400, generator=seeded_generator(seed))
            loss = ReferenceContrast()(model, rows, torch.ones(4), generator=seeded_generator(100 + seed)).loss
            found.append(torch.autograd.grad(loss, model.network.at)[0].detach())
        return torch.stack(found)

    assert_z(gradients([1.0, 0.0]), 0.0)
    for wrong in ([0.8, 0.0], [1.0, 0.1]):
        with pytest.raises(AssertionError, match="beyond"):
            assert_z(gradients(wrong), 0.0)


def test_training_finds_the_density_with_log_z_zero():
    """Data and base are Gaussian mixtures of known density: the tilt closes the gap between them, at log Z = 0."""
    base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1), 2.25))
    data = NoisedGaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[-1.2], [1.2]]), torch.full((2, 1), 0.3))
    network = ColumnTilt(ColumnTiltSettings(1, width=32), generator=seeded_generator(0))
    model = EnergySequence(SCHEDULE, network, (1,), base=base, generator=seeded_generator(0))
    state = new_state(model, learning_rate=3e-3, weight_decay=0.0, average_decay=0.95, seed=0)

    def batches(count, generator):
        return data.sample(count, generator=generator)

    settings = TrainingSettings(num_steps=250, batch_size=512, learning_rate=3e-3, evaluate_every=250, warmup_steps=10)
    train(
        state,
        ReferenceContrast(),
        batches,
        settings=settings,
        evaluation=Evaluation(batches(64, None)),
        doctor=Doctor(),
    )
    fitted = state.averaged_model.eval()
    fresh = data.sample(4000, generator=seeded_generator(1))
    estimate = importance_sampling(fitted, generator=seeded_generator(2))
    with torch.no_grad():
        before = float((data.log_prob(fresh) - base.log_prob(fresh)).mean())
        after = float((data.log_prob(fresh) - fitted.log_density(fresh, 0)).mean()) + estimate.log_z
        middle = data.noised(SCHEDULE.log_snr[2])
        noisy = middle.sample(4000, generator=seeded_generator(3))
        noisy_gap = float((middle.log_prob(noisy) - fitted.log_density(noisy, 2)).mean())
    assert before > 0.2
    assert 0 <= after < 0.02
    assert abs(estimate.log_z) < 0.05
    assert abs(noisy_gap) < 0.05


def test_a_sequence_without_a_base_is_refused():
    model = EnergySequence(SCHEDULE, Zero(), (1,), has_base=False)
    with pytest.raises(ValueError, match="needs a normalised base"):
        ReferenceContrast()(model, torch.zeros(4, 1), torch.ones(4))


@pytest.mark.parametrize("given", [{"num_negatives": 0}, {"clean_share": 0.0}, {"clean_share": 1.5}])
def test_sizes_that_mean_nothing_are_refused(given):
    with pytest.raises(ValueError, match="num_negatives of at least 1 and clean_share"):
        ReferenceContrast(**given)
