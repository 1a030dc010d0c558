"""Refusals of annealing settings."""

import pytest

from drl_density import AISSettings
from drl_density.mcmc import ULA


def test_unadjusted_kernels_are_refused():
    with pytest.raises(ValueError, match="adjusted kernel"):
        AISSettings(kernel=ULA())
