"""Points behind measurements."""

import math

import pytest
import torch

import drl_density as drl
from drl_density import AISSettings
from drl_density.errors import DataError
from drl_density.operators import Mask, MatrixOperator


@pytest.mark.parametrize("method", ["posterior", "dps", "projected"])
def test_a_measured_entry_comes_back_and_the_other_follows(tiny_density, tiny_data, method):
    """Banana: given the first coordinate, the second is near its square's curve; all methods must see that."""
    value = torch.tensor([1.2], dtype=torch.float64)
    operator = Mask(torch.tensor([True, False]))
    noise = 0.05 if method == "posterior" else None
    small = AISSettings(num_particles=32, num_replicates=4, num_transitions=2, num_pilot_particles=32)
    sizes = {"annealing": small} if method == "posterior" else {"num_steps": 60}
    settings = drl.ReconstructSettings(method, **sizes)
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
    with pytest.raises(DataError, match="needs the noise of the measurement"):
        tiny_density.reconstruct(mask, y)
    with pytest.raises(DataError, match="noise must be a positive number, got nan"):
        tiny_density.reconstruct(mask, y, noise=math.nan, settings=drl.ReconstructSettings("dps"))
    with pytest.raises(DataError, match="must be finite numbers"):
        tiny_density.reconstruct(mask, y * math.nan, settings=drl.ReconstructSettings("dps"))
    with pytest.raises(ValueError, match='num_steps .* got 7 with "posterior"'):
        drl.ReconstructSettings(num_steps=7)
    with pytest.raises(ValueError, match='annealing is a setting of "posterior", got method "dps"'):
        drl.ReconstructSettings("dps", annealing=drl.AISSettings())
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
