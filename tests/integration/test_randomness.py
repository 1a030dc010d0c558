"""Randomness comes from seeds and generators, never from the state of an object, a copy or a process."""

import copy
import json
import math
import pickle

import pyro
import pytest
import torch
from pyro.infer import Predictive

import drl_density as drl
from drl_density.diffusion_sampler import DiffusionSamplerSettings, train_diffusion_sampler
from drl_density.testing import seeded_generator
from tests import processes
from tests.density.closed_form import closed_form_density

CONDITIONAL = drl.ConditionalSettings(num_particles=4, num_final_steps=8, steps_per_level=1, num_transitions=1)
ANNEALING = drl.AISSettings(num_particles=8, num_replicates=2, num_pilot_particles=8, num_transitions=1)
SHORT = drl.ChainSampler(num_warmup=3, num_steps=3)
HOLE, ROW = [[0.0, math.nan, 1.0]], torch.zeros(1, 3)


@pytest.fixture(scope="module")
def density():
    return closed_form_density()


DISTRIBUTIONS = {
    "density": lambda d: d.distribution(),
    "expanded": lambda d: d.distribution().expand((2,)),
    "product": lambda d: drl.product([d.distribution()] * 2, sampler=SHORT),
    "power": lambda d: drl.tempered(d.distribution(), 0.5).with_sampler(SHORT),
    "mixture": lambda d: drl.Mixture([d.distribution()] * 2, [1.0, 2.0]),
    "conditional": lambda d: d.condition({"x0": 0.0}, settings=CONDITIONAL),
    "level": lambda d: d.model.level(1).with_sampler(SHORT),
    "recovery": lambda d: d.model.recovery(1).condition(torch.zeros(3).double()).with_sampler(SHORT),
}


@pytest.mark.parametrize("number", [4, 20])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_of_distributions_follow_the_global_seed_alone(name, number, density):
    made = DISTRIBUTIONS[name](density)
    pyro.set_rng_seed(1)
    first, second = made.sample((number,)), made.sample((number,))
    assert not torch.equal(first, second)
    flat = first.flatten(0, -2)
    assert len(flat.unique(dim=0)) == len(flat)
    others = [made, DISTRIBUTIONS[name](density), copy.deepcopy(made), pickle.loads(pickle.dumps(made))]
    for other, seed in zip(
        others, (pyro.set_rng_seed, torch.manual_seed, torch.manual_seed, pyro.set_rng_seed), strict=True
    ):
        seed(1)
        assert torch.equal(other.sample((number,)), first)
    pyro.set_rng_seed(2)
    assert not torch.equal(made.sample((number,)), first)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_copies_draw_on_from_one_stream(name, density):
    """Three objects that share a global generator give three sets of draws."""
    made = DISTRIBUTIONS[name](density)
    draws = [one.sample((3,)) for one in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made)))]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if name != "mixture"])
def test_a_generator_governs_a_run_and_leaves_the_global_one(name, density):
    made = DISTRIBUTIONS[name](density)
    before = torch.get_rng_state()
    first, second = (made.run((3,), generator=torch.Generator().manual_seed(5)).draws for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_has_a_seed_leaves_the_global_generator(tmp_path):
    """New layers draw their first weights from it, before those of the seed or of the file replace them."""
    settings = drl.FitSettings(
        objective=drl.AdjustedObjective(num_chain_steps=1),
        network=drl.MLPNetwork(width=8, num_blocks=1, num_fourier_features=4),
        base="gaussian",
        schedule=drl.LogSpacedSchedule(num_levels=2),
        num_particles=16,
        num_pool_draws=40,
        training=drl.TrainingSettings(num_steps=2, batch_size=16, evaluate_every=2),
    )
    sampler = DiffusionSamplerSettings(num_steps=4, width=8, num_chain_updates=2, num_chains=8, num_states=16)
    before = torch.get_rng_state()
    density = drl.fit(torch.randn(60, 2, generator=seeded_generator()), seed=0, settings=settings, out=tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    drl.Density.load(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    density.distill(settings=drl.DistillSettings("em", num_updates=2, num_warm_updates=2, width=8, num_blocks=1), seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    law = torch.distributions.Normal(torch.zeros(2), 1.0)
    train_diffusion_sampler(lambda x: law.log_prob(x).sum(1), (2,), settings=sampler, generator=seeded_generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_makes_its_prior_inside_draws_distinct_points(density):
    def model():
        return pyro.sample("x", density.distribution())

    draws = Predictive(model, num_samples=10)()["x"]
    assert len(draws.reshape(10, -1).unique(dim=0)) == 10


# --- methods with a seed

SEEDED = {
    "sample": lambda d, seed: d.sample(3, seed=seed),
    "draw": lambda d, seed: d.draw(3, settings=drl.DrawSettings("ddim", 2, num_chain_steps=4), seed=seed).draws,
    "impute": lambda d, seed: d.impute(HOLE, num_samples=2, settings=CONDITIONAL, seed=seed).rows[:, 0, 1],
    "predict": lambda d, seed: d.predict(HOLE, "x0", settings=CONDITIONAL, seed=seed).mean,
    "marginal": lambda d, seed: d.marginal(["x0"], settings=CONDITIONAL, seed=seed).log_prob(ROW[:, :1]),
    "condition": lambda d, seed: torch.tensor(
        d.condition({"x0": 0.0}, settings=CONDITIONAL, normalize=True, seed=seed).estimate.log_z
    ),
    "posterior": lambda d, seed: (
        d.posterior(lambda x: -x.square().sum(1), num_samples=2, settings=ANNEALING, seed=seed).draws
    ),
    "reconstruct": lambda d, seed: (
        d.reconstruct(
            drl.operators.Mask(torch.tensor([True, False, True])),
            torch.zeros(2),
            num_samples=2,
            settings=drl.ReconstructSettings("dps", num_steps=2),
            seed=seed,
        ).draws
    ),
}


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_fixes_the_result_and_leaves_the_global_generator(name, density):
    call = SEEDED[name]
    before = torch.get_rng_state()
    first = call(density, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(call(copy.deepcopy(density), 3), first)
    assert not torch.equal(call(density, 4), first)


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
@pytest.mark.parametrize("name", ["sample", "impute", "posterior"])
def test_without_a_seed_results_are_fresh_and_follow_the_global_seed(name, density):
    torch.manual_seed(0)
    first, second = SEEDED[name](density, None), SEEDED[name](density, None)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(SEEDED[name](density, None), first)


def test_a_seed_for_draws_that_it_does_not_govern_is_refused(density):
    with pytest.raises(drl.errors.DataError, match="normalize=True"):
        density.condition({"x0": 0.0}, seed=1)


def draws_of(density, seed):
    torch.manual_seed(seed)
    return density.sample(2, seed=9).tolist(), density.distribution().sample((2,)).tolist()


ELSEWHERE = """
import json
from tests.integration.test_randomness import closed_form_density, draws_of
density = closed_form_density()
print(json.dumps([draws_of(density, seed) for seed in (1, 2)]))
"""


def test_another_process_agrees_for_equal_seeds_and_differs_for_others(density):
    found = processes.run(ELSEWHERE)
    assert found.returncode == 0, found.stderr
    first, second = json.loads(found.stdout)
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert second == [*draws_of(density, 2)]


class Draws(torch.utils.data.Dataset):
    """A data set that draws each item from a distribution."""

    def __init__(self, distribution):
        self.distribution = distribution

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.distribution.sample()


def test_workers_of_a_loader_draw_different_points(density):
    loader = torch.utils.data.DataLoader(Draws(density.distribution()), num_workers=2, batch_size=2)
    torch.manual_seed(0)
    draws = torch.cat(list(loader))
    assert len(draws.unique(dim=0)) == 4
