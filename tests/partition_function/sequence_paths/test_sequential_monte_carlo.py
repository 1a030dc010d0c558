"""One pass of particles as an estimate of log Z with its record."""

import pytest
import torch

from drl_density.errors import NumericalError
from drl_density.model import EnergySequence
from drl_density.partition_function import resampled_log_z
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator

SYSTEM = GaussianMixtureSequence.example()


@pytest.mark.parametrize("has_rows", [True, False])
def test_log_z_of_a_mixture_within_its_error(has_rows):
    generator = seeded_generator(0)
    rows = SYSTEM.sample(64, None, generator=generator) if has_rows else None
    found = resampled_log_z(SYSTEM.model, data=rows, steps_per_level=6, generator=generator)
    assert_z(torch.tensor(found.log_z), SYSTEM.log_z(0), found.larger_error)
    assert found.bias == "lower"
    assert found.is_one_sided  # the weights are even, and nothing was walked back
    assert (found.path.num_densities, found.path.is_resampled, found.path.acceptance_rate) == (48, True, None)
    assert found.log_weights.shape == (8, 32)


def test_an_improper_model_has_no_log_z():
    class Flat(torch.nn.Module):
        """A network without decay."""

        has_bounded_growth = False

        def forward(self, x, log_snr):
            return x.sum(1)

    model = EnergySequence(SYSTEM.schedule, Flat(), (2,), has_base=False)
    with pytest.raises(NumericalError, match="improper"):
        resampled_log_z(model)
