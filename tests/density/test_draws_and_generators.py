"""Draws of a fitted density by any sampler, generators distilled from it, and points behind measurements."""

import math
from typing import get_args

import pytest
import torch

import drl_density as drl
from drl_density import AISSettings, NoiseSchedule
from drl_density.density import Density, DistillSettings, load_generator
from drl_density.density.derived.draw import DrawMethod
from drl_density.errors import DataError, RunFolderError
from drl_density.mcmc import ULA
from drl_density.operators import Mask, MatrixOperator
from drl_density.samplers import RefinementSettings, sample_refined
from drl_density.testing import assert_z, gaussian_sequence, seeded_generator


@pytest.mark.parametrize("method", get_args(DrawMethod))
def test_every_method_draws_in_data_units(tiny_density, tiny_data, method):
    steps = 60 if method == "ancestral" else 10
    settings = drl.DrawSettings(method, num_steps=steps)
    found = tiny_density.draw(200, settings=settings, seed=0)
    assert found.draws.shape == (200, 2)
    gap = (found.draws.mean(0) - tiny_data.train.mean(0)).abs() / tiny_data.train.std(0)
    assert float(gap.max()) < 0.5
    again = tiny_density.draw(200, settings=settings, seed=0)
    assert torch.equal(found.draws, again.draws)


def test_wrong_methods(tiny_density):
    with pytest.raises(ValueError, match="method must be one of .progressive"):
        drl.DrawSettings("gan")
    with pytest.raises(ValueError, match="flow has no eta"):
        drl.DrawSettings("flow", eta=0.5)
    with pytest.raises(ValueError, match="or more, or use DDIM"):
        tiny_density.draw(3, settings=drl.DrawSettings("ancestral", num_steps=2))
    with pytest.raises(ValueError, match="eta must lie"):
        tiny_density.draw(3, settings=drl.DrawSettings("ddim", eta=2.0))


def test_chains_from_wrong_points_lead_to_the_model():
    """Begun at N(3, 0.1^2) where the model is a mixture elsewhere: moments of the model at the end."""
    system = gaussian_sequence(
        torch.tensor([0.3, -0.2]), torch.tensor([[0.5, 0.2], [0.2, 0.3]]), NoiseSchedule.log_spaced(6)
    )

    def wrong(count, generator):
        return 3 + 0.1 * torch.randn(count, 2, generator=generator, dtype=torch.float64)

    settings = RefinementSettings(num_steps=150, num_warmup=150)
    found = sample_refined(system.model, 2000, initial=wrong, settings=settings, generator=seeded_generator(0))
    exact = system.marginal(0)
    assert_z(found.draws, exact.mean)
    assert_z((found.draws - exact.mean).square(), exact.variance)
    short = RefinementSettings(num_steps=4, num_warmup=1)
    assert float(sample_refined(system.model, 200, initial=wrong, settings=short).stats["r_hat"].max()) > 1.1
    with pytest.raises(ValueError, match="starting points"):
        sample_refined(system.model, 5, initial=lambda count, source: torch.zeros(3, 2))
    with pytest.raises(ValueError, match="only an adjusted kernel"):
        RefinementSettings(kernel=ULA())


@pytest.mark.parametrize("method", ["mmd", "em"])
def test_a_generator_is_trained_saved_and_read(tiny_density, tiny_data, tmp_path, method):
    path = tiny_density.save(tmp_path / "run")
    settings = DistillSettings(method=method, num_calls=3, num_updates=6, batch_size=32, num_corrections=2, width=16)
    made = tiny_density.distill(tiny_data.train, settings=settings, seed=1)
    assert "not a density" in repr(made)
    assert made.num_calls == (3 if method == "mmd" else 1)
    assert not hasattr(made, "log_prob")
    made.save(path)
    read = load_generator(path)
    draws = [each.sample(50, seed=0) for each in (made, read)]
    torch.testing.assert_close(*draws, rtol=1e-5, atol=1e-6)
    assert draws[0].shape == (50, 2)
    corrected = made.correct(20, settings=RefinementSettings(num_steps=4, num_warmup=2))
    assert corrected.draws.shape == (20, 2)
    assert corrected.stats["r_hat"].shape == (2,)
    plain = Density.load(path)
    x = tiny_data.test[:5]
    torch.testing.assert_close(plain.log_prob(x), tiny_density.log_prob(x))


def test_wrong_generators(tiny_density, tmp_path):
    with pytest.raises(DataError, match="needs rows"):
        tiny_density.distill()
    with pytest.raises(DataError, match="rows of shape"):
        tiny_density.distill(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="method must be one of .mmd., .em"):
        DistillSettings(method="gan")
    with pytest.raises(RunFolderError, match="make one with"):
        load_generator(tiny_density.save(tmp_path / "run"))


@pytest.mark.parametrize("method", ["posterior", "dps", "projected"])
def test_a_measured_entry_comes_back_and_the_other_follows(tiny_density, tiny_data, method):
    """Banana: given the first coordinate, the second is near its square's curve; all methods must see that."""
    value = torch.tensor([1.2], dtype=torch.float64)
    operator = Mask(torch.tensor([True, False]))
    noise = 0.05 if method == "posterior" else None
    small = AISSettings(num_particles=32, num_replicates=4, num_transitions=2, num_pilot_particles=32)
    settings = drl.ReconstructSettings(method, num_steps=60, annealing=small)
    found = tiny_density.reconstruct(operator, value, noise=noise, num_samples=60, settings=settings, seed=0)
    assert found.draws.shape == (60, 2)
    assert float((found.mean[0] - 1.2).abs()) < 0.2
    if method == "projected":
        torch.testing.assert_close(found.draws[:, 0], value.expand(60), rtol=1e-5, atol=1e-5)
    lower, upper = found.interval(0.9)
    assert float(lower[1]) < float(found.draws[:, 1].median()) < float(upper[1])
    assert found.standard_deviation[1] > found.standard_deviation[0]
    assert math.isfinite(found.misfit)
    assert method in found.summary()


def test_wrong_measurements(tiny_density):
    mask, y = Mask(torch.tensor([True, False])), torch.zeros(1)
    with pytest.raises(DataError, match="needs a positive noise"):
        tiny_density.reconstruct(mask, y)
    with pytest.raises(ValueError, match="method must be one of .posterior"):
        drl.ReconstructSettings("magic")
    with pytest.raises(DataError, match="measurement of shape"):
        tiny_density.reconstruct(mask, torch.zeros(2), noise=0.1)
    with pytest.raises(DataError, match="expected a real measurement"):
        tiny_density.reconstruct(mask, torch.zeros(1, dtype=torch.complex64), noise=0.1)
    with pytest.raises(DataError, match="takes a Mask"):
        tiny_density.reconstruct(
            MatrixOperator(torch.eye(2)), torch.zeros(2), settings=drl.ReconstructSettings("projected")
        )
    with pytest.raises(DataError, match="does not hold 2 columns"):
        tiny_density.reconstruct(mask, y, noise=0.1, image_shape=(2, 2))
    with pytest.raises(ValueError, match="lacks forward and adjoint"):
        tiny_density.reconstruct(object(), y, noise=0.1)
