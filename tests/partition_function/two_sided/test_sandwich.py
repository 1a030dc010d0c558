"""Sandwiches of distributions without levels."""

import math
import warnings
from types import SimpleNamespace

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import drl_density as drl
from drl_density.errors import NumericalError
from drl_density.partition_function import (
    level_recursion,
    sequence_path,
)
from drl_density.partition_function.mode_search import search
from drl_density.partition_function.two_sided import sandwich as sandwich_module
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.testing import assert_z
from tests.partition_function.known_answers import SMALL_SANDWICH, funnel


def test_sandwich_of_any_distribution():
    target = drl.EnergyDistribution.from_log_density(lambda x: -0.5 * (x**2).sum(-1) / 0.25 + 4.0, event_shape=(3,))
    result = drl.sandwich(target, base=dist.Normal(torch.zeros(3), 1.0).to_event(1), seed=0, settings=SMALL_SANDWICH)
    truth = 4.0 + 1.5 * math.log(2 * math.pi * 0.25)
    assert_z(result.log_z, truth, result.standard_error)
    assert result.lower < result.log_z < result.upper
    assert "log Z" in str(result)
    assert target.normalize(result).is_normalized


def test_improper_and_wrong_targets_are_refused():
    model = drl.EnergySequence(drl.NoiseSchedule.log_spaced(2), torch.nn.Linear(2, 1), (2,), has_base=False)
    for estimate in (drl.sandwich, sequence_path, lambda m: level_recursion(m, [torch.zeros(3, 2)] * 2)):
        with pytest.raises(NumericalError, match="improper"):
            estimate(model)
    with pytest.raises(ValueError, match="without batch shape"):
        drl.sandwich(dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))
    with pytest.raises(ValueError, match="one event shape"):
        drl.sandwich(dist.Normal(torch.zeros(2), 1.0).to_event(1), base=dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pytest.raises(ValueError, match="sum discrete variables out"):
        drl.sandwich(dist.Poisson(torch.ones(2)).to_event(1))


def test_a_density_that_only_overflow_ends_is_improper():
    """1 / x is flat in the logarithm of x, from -745 to 709."""
    support = constraints.independent(constraints.positive, 1)
    target = drl.EnergyDistribution.from_log_density(lambda x: -x.log().sum(-1), (2,), support=support)
    with pytest.warns(drl.errors.UnreliableEstimateWarning, match="out to the last numbers of the support"):
        assert drl.sandwich(target, seed=0, settings=SMALL_SANDWICH).verdict == "improper"


def test_an_infinite_integral_is_improper_and_no_number():
    """1 / (1 + |x|), whose annealing runs and rounds agree with each other about nothing."""
    target = drl.EnergyDistribution.from_log_density(lambda x: -torch.log1p(x.abs()).sum(-1), event_shape=(1,))
    sizes = {"num_particles": 32, "num_replicates": 2, "num_transitions": 1, "num_mixing_steps": 2, "most_rounds": 4}
    small = drl.SandwichSettings(**sizes, tolerance=5.0)
    with pytest.warns(drl.errors.UnreliableEstimateWarning, match="log Z is improper"):
        result = drl.sandwich(target, seed=0, settings=small)
    assert result.verdict == "improper"
    assert math.isnan(result.log_z)


def test_sandwich_is_reproducible():
    target = dist.Normal(torch.zeros(2), 0.5).to_event(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (drl.sandwich(target, seed=3, settings=SMALL_SANDWICH) for _ in range(2))
    assert first.log_z == second.log_z


def test_the_run_goes_on_until_the_interval_is_as_narrow_as_was_asked():
    target = drl.EnergyDistribution.from_log_density(lambda x: -2.0 * (x**2).sum(-1), event_shape=(2,))
    # Twenty mixing steps, five of which propose from the base too, bring the draws to rest. After five steps log Z may still
    # move, which no number of paths mends.
    settings = drl.SandwichSettings(num_particles=128, num_replicates=4, num_mixing_steps=20, tolerance=1.0)
    truth = math.log(math.pi / 2)
    rough = drl.sandwich(target, seed=0, settings=settings)
    assert (rough.precision.num_paths, rough.precision.tolerance) == (512, 1.0)
    fine = drl.sandwich(target, seed=0, tolerance=0.015, settings=settings)
    assert fine.precision.tolerance == 0.015
    assert fine.precision.is_reached
    assert 512 < fine.precision.num_paths <= 4096
    assert_z(fine.log_z, truth, fine.standard_error)


def test_batches_are_pooled_as_long_as_paths_are_missing(monkeypatch):
    target = dist.Normal(torch.zeros(2), 0.5).to_event(1)
    settings = drl.SandwichSettings(num_particles=64, num_replicates=4, num_mixing_steps=2, tolerance=1.0)
    asked = iter([300, 200, 0])
    monkeypatch.setattr(sandwich_module, "missing_paths", lambda walks, tolerance: next(asked))
    found = drl.sandwich(target, seed=0, settings=settings)
    assert found.forward.shape == found.reverse.shape == (4 + 2 * 4 + 4, 64)
    assert next(asked, None) is None
    monkeypatch.setattr(sandwich_module, "missing_paths", lambda walks, tolerance: 10**9)
    assert len(drl.sandwich(target, seed=0, settings=settings).forward) == 4


@pytest.fixture
def short_search(monkeypatch):
    """A search for modes that ends after its first starts, where the rounds behind it are what is tested."""
    monkeypatch.setattr(search, "MOST_EXPENSIVE", 0)


@pytest.mark.usefixtures("short_search")
def test_a_kernel_that_never_accepts_is_not_reliable():
    """A target with spikes far narrower than any step: the particles stand still and the verdict says so."""
    from drl_density.partition_function import SandwichSettings, sandwich

    target = drl.EnergyDistribution.from_log_density(
        lambda x: 60 * torch.cos(3e4 * x).sum(-1) - (x**2).sum(-1), event_shape=(1,)
    )
    sizes = {"num_particles": 32, "num_replicates": 2, "num_transitions": 1, "num_mixing_steps": 2, "num_swept": 0}
    settings = SandwichSettings(**sizes, most_rounds=4, most_batches=1, conditional_ess=0.9)
    base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    with pytest.warns(drl.errors.UnreliableEstimateWarning, match="kernel hardly accepts"):
        result = sandwich(target, base=base, seed=0, settings=settings)
    assert result.verdict == "unreliable"
    assert min(result.path.acceptance_rates) < 0.05


@pytest.mark.usefixtures("short_search")
def test_a_funnel_with_few_particles_is_covered_and_called_unreliable():
    """With few particles the neck is missing at first, and rounds of bases are too rough to show that log Z is settled."""
    sizes = {"num_particles": 32, "num_replicates": 2, "num_mixing_steps": 10, "num_swept": 0}
    settings = drl.SandwichSettings(**sizes, most_rounds=4, most_batches=1, conditional_ess=0.9)
    target = drl.EnergyDistribution.from_log_density(funnel, event_shape=(4,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
        result = drl.sandwich(target, base=dist.Normal(torch.zeros(4), 3.0).to_event(1), seed=0, settings=settings)
    assert len(result.rounds) >= 3
    early = result.estimates[Estimator.BENNETT_EARLY]
    assert result.standard_error >= 0.5 * abs(result.log_z - early.log_z)
    assert result.verdict == "unreliable"
    assert "fitted base" in result.advice
    assert result.lower <= result.bracket[0] < 0 < result.bracket[1] <= result.upper


def test_a_heavier_mode_far_away_is_found_and_said():
    """Without a search for modes this is -1.2 and reliable: no particle from N(0, 1) reaches the narrow mode at 30."""

    def log_density(x):
        far = math.log(0.7 / 0.1) - 0.5 * ((x[..., 0] - 30) / 0.1) ** 2
        return torch.logaddexp(math.log(0.3) - 0.5 * x[..., 0] ** 2, far) - 0.5 * math.log(2 * math.pi)

    target = drl.EnergyDistribution.from_log_density(log_density, event_shape=(1,))
    result = drl.sandwich(target, seed=0, settings=SMALL_SANDWICH)
    assert_z(result.log_z, 0.0, result.standard_error)
    search = result.mode_search
    assert [round(float(mode.location), 3) for mode in search.modes] == [30.0, 0.0]
    assert search.visits[0] == pytest.approx(0.7, abs=0.1)
    demanded = search.power[0]  # narrower planted modes follow, and chance decides how narrow the last one found is
    assert (demanded.mass, demanded.share >= 0.95) == (0.2, True)
    assert demanded.width == pytest.approx(0.1, rel=0.01)
    assert "2 modes found; modes at least 0." in result.advice
    assert result.verdict == "reliable"


def test_hints_have_to_be_points_of_the_target():
    target = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    for starts in (torch.zeros(3), torch.zeros(1, 3), torch.zeros(0, 2)):
        with pytest.raises(ValueError, match="starts must be points of shape"):
            drl.sandwich(target, starts=starts, seed=0, settings=SMALL_SANDWICH)
    with pytest.raises(ValueError, match="starts must lie where the target has density"):
        drl.sandwich(dist.Gamma(torch.ones(2), 1.0).to_event(1), starts=-torch.ones(1, 2), settings=SMALL_SANDWICH)


def test_a_walk_that_cannot_be_completed_is_a_verdict_and_no_error(monkeypatch):
    def refused(*given, **named):
        raise NumericalError("placing bridges stopped")

    monkeypatch.setattr(sandwich_module, "fit_rounds", refused)
    target = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    with pytest.warns(drl.errors.UnreliableEstimateWarning, match="log Z is unknown: no walk .* placing bridges stopped"):
        result = drl.sandwich(target, seed=0, settings=SMALL_SANDWICH)
    assert result.verdict == "unknown"
    assert math.isnan(result.log_z)
    assert (result.lower, result.upper) == result.interval(0.5) == (-math.inf, math.inf)
    assert result.mode_search is not None
    assert result.precision.needed_paths == 0
    assert math.isnan(result.precision.needed_seconds)
    assert "unknown" in str(result)


def test_a_target_of_too_many_modes_is_unknown_soon():
    """4,096 wells: after the search one round of few particles gives a rough number."""

    def wells(x):
        return -2 * (x.square() - 4).square().sum(-1)

    target = drl.EnergyDistribution.from_log_density(wells, event_shape=(12,))
    with pytest.warns(drl.errors.UnreliableEstimateWarning, match="of the modes or of the mass may be unseen"):
        result = drl.sandwich(target, seed=0, settings=drl.SandwichSettings(num_particles=128, num_replicates=2))
    assert result.verdict == "unknown"
    assert len(result.rounds) <= 2  # one round, and the weights of the components where they fit
    assert result.forward.numel() == 128  # 64 particles of each replicate, in one batch
    assert "search for modes" in str(result)


def test_components_of_one_mode_that_hold_little_of_it_are_not_kept():
    """Gaussians at optima of a ring in five dimensions explain little; those at two separate modes are kept in any case."""
    search = SimpleNamespace(has_gradient=True, modes=(1,), efficiency=0.05)
    components = object()
    assert sandwich_module._worth_keeping(SimpleNamespace(record=search, components=components)) is None
    for changes in ({"efficiency": 0.3}, {"modes": (1, 2)}, {"has_gradient": False}):
        record = SimpleNamespace(**{**vars(search), **changes})
        assert sandwich_module._worth_keeping(SimpleNamespace(record=record, components=components)) is components
