"""Everything that runs chains works inside ``torch.inference_mode``, although chains need gradients."""

import math

import pytest
import torch

import drl_density as drl
from tests.conftest import TINY, short_annealing

CONDITIONAL = drl.ConditionalSettings(num_particles=4, num_final_steps=8, steps_per_level=1, num_transitions=1)
ANNEALING = drl.AISSettings(num_particles=8, num_replicates=2, num_pilot_particles=8, num_transitions=1)
SHORT = drl.ChainSampler(num_warmup=2, num_steps=2)


def target():
    return drl.EnergyDistribution.from_log_density(lambda x: -x.square().sum(-1), event_shape=(2,)).with_sampler(SHORT)


CALLS = {
    "few draws of the distribution": lambda d: d.distribution().sample((2,)),
    "many draws of the distribution": lambda d: d.distribution().sample((20,)),
    "sample": lambda d: d.sample(3),
    "draw": lambda d: d.draw(3, settings=drl.DrawSettings("ddim", num_steps=2, num_chain_steps=4)),
    "flow": lambda d: d.draw(3, settings=drl.DrawSettings("flow", num_steps=2)),
    "impute": lambda d: (
        d.impute(torch.tensor([[0.0, math.nan]], dtype=torch.float64), num_samples=2, settings=CONDITIONAL).rows
    ),
    "condition": lambda d: d.condition(torch.tensor([0.0, math.nan]).double(), settings=CONDITIONAL).sample((2,)),
    "marginal": lambda d: d.marginal([0], settings=CONDITIONAL).log_prob(torch.zeros(2, 1).double()),
    "predict": lambda d: d.predict(torch.zeros(1, 2).double(), 0).mean,
    "diagnose": lambda d: (
        d.diagnose(
            torch.zeros(4, 2), settings=drl.DiagnoseSettings(num_steps=100, num_chains=8, has_tempering=False)
        ).verdict
    ),
    "posterior": lambda d: d.posterior(lambda x: -x.square().sum(1), num_samples=2, settings=ANNEALING).draws,
    "distill": lambda d: (
        d.distill(torch.randn(20, 2), settings=drl.DistillSettings(num_updates=1, batch_size=4)).losses
    ),
    "level": lambda d: d.model.level(2).with_sampler(SHORT).sample((2,)),
    "recovery": lambda d: d.model.recovery(2).condition(torch.zeros(3, 2)).with_sampler(SHORT).sample((2,)),
    "score": lambda d: d.model.score(torch.zeros(3, 2), 1),
    "product": lambda d: drl.product([target(), target()], is_integrable=True, sampler=SHORT).sample((2,)),
    "energy": lambda d: target().sample((2,)),
    "run_chain": lambda d: (
        drl.run_chain(drl.MALA(), target().log_prob, torch.zeros(2, 2), num_steps=2, step_size=0.1).draws
    ),
    "value_and_gradient": lambda d: drl.mcmc.MALA().init(torch.zeros(2, 2), target().log_prob).gradient,
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_work_and_give_tensors_that_autograd_takes(name, tiny_density):
    with torch.inference_mode():
        found = CALLS[name](tiny_density)
        assert torch.is_inference_mode_enabled()
    if isinstance(found, torch.Tensor):
        assert bool(found.isfinite().all())
        assert not found.is_inference()


def test_draws_are_those_without_the_mode(tiny_density):
    without = tiny_density.sample(5, seed=3)
    with torch.inference_mode():
        assert torch.equal(tiny_density.sample(5, seed=3), without)


def test_what_was_made_inside_works_outside(tiny_density, tmp_path):
    tiny_density.save(tmp_path / "run")
    with torch.inference_mode():
        loaded, data = drl.Density.load(tmp_path / "run"), drl.load_dataset(torch.randn(40, 2), seed=0)
        distribution = loaded.distribution()
    assert not any(parameter.is_inference() for parameter in loaded.model.parameters())
    assert distribution.sample((2,)).shape == (2, 2)
    assert not data.train.is_inference()


def test_a_fit_works_inside():
    with torch.inference_mode():
        settings = drl.FitSettings.from_dict(
            TINY.to_dict() | {"training": {"num_steps": 2, "batch_size": 16}, "num_particles": 32}
        )
        with short_annealing():
            density = drl.fit(torch.randn(60, 2), seed=0, settings=settings, progress=False)
    assert density.sample(2, seed=0).shape == (2, 2)
