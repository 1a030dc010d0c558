"""Fits of marginals in earnest."""

import pytest

from drl_density.transforms import fit_marginals
from tests.conftest import fit_mixture


@pytest.fixture(scope="package", autouse=True)
def _fresh_mixtures():
    """Every fit of a mixture is made, equal ones too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_marginals, "fit_mixture", fit_mixture)
        yield
