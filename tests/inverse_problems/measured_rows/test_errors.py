"""Laws of errors, which are known where a Gaussian is all there is."""

import pytest
import torch

import drl_density as drl
from drl_density.bases import FactorAnalysers
from drl_density.inverse_problems import DenoisingErrors
from drl_density.networks.contract import NoTilt
from drl_density.testing import seeded_generator
from tests.inverse_problems.measured_rows.test_sampler import LOADINGS, MEAN, NOISES, gaussian_sequence


def test_fitted_errors_are_those_of_the_base():
    model = gaussian_sequence()
    rows = model.base.sample(4000, generator=seeded_generator(2))
    fitted = DenoisingErrors.fit(model, rows, num_steps=3, num_factors=(1,), batch_size=4000, generator=seeded_generator(3))
    exact = DenoisingErrors.of_base(model, num_steps=3)
    for index in range(4):
        first, second = (
            each.loadings[index].double() @ each.loadings[index].double().T + each.noises[index].double().diag()
            for each in (fitted, exact)
        )
        spread = second.diagonal().sqrt()
        # Some 3,000 rows, and six passes of expectation maximisation.
        assert float(((first - second) / spread.outer(spread)).abs().max()) < 0.12


def test_a_mixture_has_no_one_law():
    two = FactorAnalysers(torch.ones(2) / 2, MEAN.expand(2, -1), LOADINGS.expand(2, -1, -1), NOISES.expand(2, -1))
    with pytest.raises(ValueError, match="a base of one factor analyser"):
        DenoisingErrors.of_base(drl.EnergySequence(gaussian_sequence().schedule, NoTilt(), (3,), base=two))
