"""EM distillation against closed forms."""

import pytest
import torch

import drl_density as drl
from drl_density.distillation import EMDistillationSettings, GapNetwork, OneStepGenerator, distill_by_em
from drl_density.distillation.em import correct_pairs
from drl_density.distillation.gaps import DenoisedGap, KnownGap
from drl_density.errors import TrainingFailed
from drl_density.testing import assert_z, gaussian_sequence, seeded_generator


def steps_to(schedule, levels):
    """Signal and noise scales of the steps from level 0, one for each of ``levels``."""
    return schedule.step_between(torch.zeros_like(levels), levels)


# With all noise cancelled the correction vanishes at the truth; without, Adam's steps of 0.02 keep W moving.
@pytest.mark.parametrize(("cancellation", "tolerance"), [("none", 0.2), ("all", 0.01)])
def test_a_linear_student_learns_the_teachers_covariance(cancellation, tolerance):
    """Teacher N(0, S), student W z, both scores exact: W W^T must become the covariance of level 0."""
    covariance = torch.tensor([[1.0, 0.5], [0.5, 0.6]], dtype=torch.float64)
    system = gaussian_sequence(torch.zeros(2), covariance, drl.NoiseSchedule.log_spaced(8))
    linear = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(0.3 * torch.eye(2))
    student = OneStepGenerator(linear, 2)

    def student_score(x, levels):
        alpha, sigma = (value[:, None, None] for value in steps_to(system.schedule, levels))
        weight = linear.weight.detach()
        noised = alpha**2 * (weight @ weight.T) + sigma**2 * torch.eye(2, dtype=torch.float64)
        return -torch.linalg.solve(noised, x)

    settings = EMDistillationSettings(
        num_steps=200,
        batch_size=128,
        num_corrections=4,
        learning_rate=0.02,
        cancellation=cancellation,
        score_steps=1,
        first_score_steps=100,
        step_latent=0.02,
        lowest_level=4.0,
    )
    corrections = distill_by_em(
        system.model, student, student_score=student_score, settings=settings, generator=seeded_generator(0)
    )
    found = linear.weight.detach() @ linear.weight.detach().T
    covariance = system.components(0).covariance_matrix[0]
    assert float((found - covariance).norm() / covariance.norm()) < tolerance
    assert sum(corrections[-50:]) < sum(corrections[:50])


def one_dimensional_pair():
    """Teacher N(0, 1), student 0.5 z, the gap between their exact scores, and both scales of level 3."""
    system = gaussian_sequence(torch.zeros(1), torch.ones(1, 1), drl.NoiseSchedule.log_spaced(6))
    linear = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.fill_(0.5)

    def score(x, levels):
        alpha, sigma = (value[:, None] for value in steps_to(system.schedule, levels))
        return -x / (alpha**2 * 0.25 + sigma**2)

    return system, OneStepGenerator(linear, 1), KnownGap(system.model, score)


def test_one_frozen_step_is_variational_score_distillation():
    """K = 1, z frozen, noise cancelled: the gradient is -2 alpha step sigma^2 E[Delta dg/dtheta], draw by draw."""
    system, student, gap = one_dimensional_pair()
    settings, levels = EMDistillationSettings(num_corrections=1, step_latent=0.0), torch.full((50,), 3.0)
    pairs = correct_pairs(system.schedule, student, gap, levels, settings, seeded_generator(0))
    alpha, sigma = (float(value[0]) for value in steps_to(system.schedule, levels))
    loss = (pairs.target - alpha * student(pairs.latents)).square().sum(1).mean()
    (found,) = torch.autograd.grad(loss, student.parameters())
    generator = seeded_generator(0)
    z = student.latents(50, generator=generator)
    x = alpha * student(z).detach() + sigma * torch.randn(50, 1, generator=generator, dtype=torch.float64)
    expected = -2 * alpha * settings.step_noise * sigma**2 * (gap(x, levels) * z).mean()
    torch.testing.assert_close(found.flatten()[0], expected, rtol=1e-5, atol=1e-9)
    assert float(expected.abs()) > 1e-3


def test_cancelled_noise_leaves_the_gradient_and_takes_its_spread():
    system, student, gap = one_dimensional_pair()
    gradients, levels = {}, torch.full((20_000,), 3.0)
    for cancellation in ("none", "accumulated", "all"):
        settings = EMDistillationSettings(num_corrections=1, step_latent=0.0, cancellation=cancellation)
        pairs = correct_pairs(system.schedule, student, gap, levels, settings, seeded_generator(0))
        residual = pairs.target - pairs.alpha * student(pairs.latents)
        gradients[cancellation] = (-2 * pairs.alpha * residual * pairs.latents).detach().flatten()
    for cancellation in ("none", "accumulated"):
        assert_z(gradients[cancellation] - gradients["all"], 0.0)
    none, accumulated, all_noise = (float(values.std()) for values in gradients.values())
    assert all_noise < 0.3 * accumulated < 0.3 * none


class TwoModes(torch.nn.Module):
    """Every coordinate an even mixture of N(-1.2, 0.2^2) and N(1.2, 0.2^2)."""

    is_integrable = True

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x, log_snr):
        log_snr = log_snr.expand(len(x))[:, None]
        alpha, variance = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(log_snr) * 0.04 + torch.sigmoid(-log_snr)
        parts = [-0.5 * (x - mode * alpha).square() / variance for mode in (-1.2, 1.2)]
        return torch.logaddexp(*parts).sum(1)


class Affine(torch.nn.Module):
    """w z + b, coordinate by coordinate: ten students side by side."""

    def __init__(self):
        super().__init__()
        self.spread = torch.nn.Parameter(torch.full((10,), 0.2, dtype=torch.float64))
        self.center = torch.nn.Parameter(torch.full((10,), 1.2, dtype=torch.float64))

    def forward(self, z):
        return self.spread * z + self.center


def test_more_corrections_cover_modes_that_one_misses():
    """Begun at one of two modes, ten students each: K = 16 widens over both, K = 1 with z frozen stays.

    The noise is too small for one step to see the other mode.
    """
    schedule = drl.NoiseSchedule.log_spaced(3, sigma_max=0.5)
    teacher = drl.EnergySequence(schedule, TwoModes(), (10,), has_base=False)
    covered = {}
    for num_corrections, step_latent in ((1, 0.0), (16, 0.02)):
        network = Affine()

        def score(x, levels, network=network):
            alpha, sigma = (value[:, None] for value in steps_to(schedule, levels))
            variance = alpha**2 * network.spread.detach() ** 2 + sigma**2
            return -(x - alpha * network.center.detach()) / variance

        settings = EMDistillationSettings(
            num_steps=120,
            batch_size=64,
            num_corrections=num_corrections,
            step_latent=step_latent,
            learning_rate=0.02,
            lowest_level=2.0,
        )
        distill_by_em(
            teacher,
            OneStepGenerator(network, 10),
            student_score=score,
            settings=settings,
            generator=seeded_generator(0),
        )
        other_side = torch.distributions.Normal(0.0, 1.0).cdf(-network.center / network.spread.abs())
        covered[num_corrections] = int((other_side > 0.05).sum())
    # Ten independent students: 7 more of them would arise by chance in fewer than 0.2 % of runs of equal methods.
    assert covered[16] >= covered[1] + 7


def test_the_gap_can_be_learned():
    """A student four times too wide or narrow comes to the teacher's spread of 0.5 and the noise of level 0."""
    system = gaussian_sequence(torch.zeros(2), 0.5 * torch.eye(2), drl.NoiseSchedule.log_spaced(6))
    student = OneStepGenerator(torch.nn.Linear(2, 2, dtype=torch.float64), 2)
    with torch.no_grad():
        student.network.weight.copy_(torch.diag(torch.tensor([1.4, 0.35])))
        student.network.bias.zero_()
    network = GapNetwork(2, width=32, dtype=torch.float64, generator=seeded_generator(0))
    sizes = {"num_steps": 150, "lowest_level": 3.0, "score_steps": 1, "first_score_steps": 20, "averaging": 0.9}
    settings = EMDistillationSettings(**sizes, learning_rate=0.03, score_learning_rate=0.01)
    distill_by_em(system.model, student, gap_network=network, settings=settings, generator=seeded_generator(0))
    assert not network.training
    spread = student.sample(4000, generator=seeded_generator(1)).var(0)
    assert bool(((spread > 0.35) & (spread < 0.7)).all()), spread
    for given in ({}, {"gap_network": network, "student_score": lambda x, levels: -x}):
        with pytest.raises(ValueError, match="either a gap_network"):
            distill_by_em(system.model, student, **given)


def test_the_gap_is_learned_several_times_for_each_update_of_the_student(monkeypatch):
    learned, (system, student, _) = [], one_dimensional_pair()
    monkeypatch.setattr(DenoisedGap, "learn", lambda self, levels, generator: learned.append(len(levels)))
    network = GapNetwork(1, width=4, dtype=torch.float64, generator=seeded_generator(0))
    for sizes, count in (({}, 2 + 3 * 5), ({"score_steps": 1}, 2 + 3)):
        settings = EMDistillationSettings(num_steps=3, batch_size=8, first_score_steps=2, **sizes)
        distill_by_em(system.model, student, gap_network=network, settings=settings, generator=seeded_generator(0))
        assert learned == [8] * count
        learned.clear()


def test_steps_that_are_too_large_stop():
    system, student, gap = one_dimensional_pair()
    settings = EMDistillationSettings(num_steps=20, batch_size=8, num_corrections=200, step_noise=200.0)
    with pytest.raises(TrainingFailed, match="the student's regression at step .* lower the step sizes"):
        distill_by_em(
            system.model, student, student_score=gap.student_score, settings=settings, generator=seeded_generator(0)
        )


def test_the_student_ends_at_the_average_of_its_weights():
    """The average of all steps but the first tenth or so lies between the first weights and the last."""
    ends = {}
    for averaging in (0.0, 0.999):
        system, student, gap = one_dimensional_pair()
        settings = EMDistillationSettings(num_steps=30, batch_size=256, learning_rate=0.01, averaging=averaging)
        distill_by_em(
            system.model, student, student_score=gap.student_score, settings=settings, generator=seeded_generator(0)
        )
        ends[averaging] = float(student.network.weight.detach())
    assert 0.5 < ends[0.999] < ends[0.0]
