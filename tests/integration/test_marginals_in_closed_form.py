"""Marginals and conditionals of any columns where reference and target are Gaussian mixtures, so that both are closed forms.

The network is the log ratio of the target to the reference, at every level. The columns of the target's components are
independent, so cells of labels and of few distinct values have closed forms too.
"""

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from drl_density import EnergySequence, NoiseSchedule
from drl_density.bases import NoisedGaussianMixture
from drl_density.datasets import Column
from drl_density.density.conditioning import proposals
from drl_density.testing import assert_z, seeded_generator
from tests.density.closed_form import SCALE, SHIFT, closed_form_density

COLUMNS = (
    Column("x"),
    Column("grid", "rounded", 0.2),
    Column("class", "categorical", categories=("red", "green", "blue")),
    Column("yes", "binary", 0.5, values=(0.0, 1.0)),
)
NAMES = [column.name for column in COLUMNS]
WEIGHTS = torch.tensor([0.5, 0.2, 0.3])
MEANS = torch.tensor([[-1.0, 0.8, -1.0, -0.5], [0.2, -0.6, -0.45, -0.9], [1.1, 0.3, -0.1, -0.6]])
VARIANCES = torch.tensor([[0.2, 0.1, 0.04, 0.05], [0.1, 0.2, 0.05, 0.04], [0.15, 0.15, 0.04, 0.06]])


class LogRatio(nn.Module):
    """The log ratio of two mixtures, bounded from above where the second has the wider components."""

    is_bounded = True

    def __init__(self, target, reference):
        super().__init__()
        self.target, self.reference = target, reference
        self.nothing = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, log_snr):
        return self.target(x, log_snr) - self.reference(x, log_snr) + self.nothing


class RatioSystem:
    """The target mixture as a tilt of a wider reference, with its closed forms in data units."""

    dim = 4

    def __init__(self):
        self.target = NoisedGaussianMixture(WEIGHTS, MEANS, VARIANCES)
        covariances = torch.diag_embed(1.5 * VARIANCES) + 0.02
        reference = NoisedGaussianMixture(torch.tensor([0.3, 0.4, 0.3]), MEANS + 0.05, covariances)
        self.model = EnergySequence(
            NoiseSchedule.log_spaced(5), LogRatio(self.target, reference), (4,), base=reference, dtype=torch.float64
        )
        noised = self.target.noised(self.model.schedule.log_snr_at(0))
        self.law = Normal(SHIFT + SCALE * noised.centers.double(), SCALE * noised.variances.double().sqrt())

    def log_z(self, level):
        """Log integral of F_0: the ratio times the reference is the normalised target."""
        return 0.0

    def sample(self, num_samples, level, *, generator):
        """Exact draws in model space."""
        return self.target.sample_at(self.model.schedule.log_snr_at(level), num_samples, generator=generator).double()

    def log_density(self, rows, is_kept):
        """Log density of some columns of rows ``(n, 4)`` in data units; of a closed support the mean over the cell."""
        return self.log_shares(rows, is_kept).logsumexp(1)

    def log_shares(self, rows, is_kept):
        """Log of each component's share of that density, ``(n, K)``."""
        total = WEIGHTS.double().log().expand(len(rows), -1)
        for place in is_kept.nonzero().flatten().tolist():
            column, law, value = COLUMNS[place], self._column(place), rows[:, place, None]
            if column.is_closed:
                low, high = value - column.width / 2, value + column.width / 2
                total = total + ((law.cdf(high) - law.cdf(low)) / column.width).log()
            else:
                total = total + law.log_prob(value)
        return total

    def moments(self, place, row, is_given):
        """First two moments of one column, given others of a row ``(4,)``."""
        shares, law = self.log_shares(row[None], is_given)[0].softmax(0), self._column(place)
        return torch.stack([shares @ law.mean, shares @ (law.mean.square() + law.variance)])

    def _column(self, place):
        return Normal(self.law.loc[:, place], self.law.scale[:, place])


SYSTEM = RatioSystem()
KEPT = [[name] for name in NAMES] + [[other for other in NAMES if other != name] for name in NAMES] + [["class", "x"]]


@pytest.fixture(scope="module")
def density():
    return closed_form_density(SYSTEM, COLUMNS)


@pytest.fixture(scope="module")
def rows(density):
    return density.sample(8, seed=1)


def mask_of(names):
    return torch.tensor([name in names for name in NAMES])


@pytest.mark.parametrize("names", KEPT, ids="-".join)
def test_marginals_have_their_closed_form_within_their_error(density, rows, names):
    marginal = density.marginal(names, seed=0)
    value, error = marginal.log_prob_and_error(rows[:, [NAMES.index(name) for name in names]])
    truth = SYSTEM.log_density(rows, mask_of(names))
    assert bool((error < 0.3).all())
    assert_z(value, truth, error)
    with pytest.raises(AssertionError, match="beyond"):
        assert_z(value + 8 * error, truth, error)


@pytest.mark.parametrize("names", KEPT, ids="-".join)
def test_conditionals_are_the_ratio_of_closed_forms(density, rows, names):
    """The estimate of the normaliser is the only error, but for cells, which 32 points average to within 1 %."""
    is_given = mask_of(names)
    given = dict(zip(names, [density.to_frame(rows[:1])[name][0] for name in names], strict=True))
    partial = density.condition(given, normalize=True, seed=2)
    points = rows.clone()
    points[:, is_given] = rows[0, is_given]
    error = partial.estimate.standard_error
    assert error < 0.1
    if not any(column.is_closed for column, is_known in zip(COLUMNS, is_given, strict=True) if not is_known):
        # Draws of closed columns are points of their cells, whose densities differ from the cells' means.
        truth = SYSTEM.log_density(points, mask_of(NAMES)) - SYSTEM.log_density(points[:1], is_given)
        gap = partial.log_prob(points[:, ~is_given]) - truth
        assert float(gap.abs().max()) < 5.2 * error + 0.01
    draws = partial.run((4000,), generator=seeded_generator(3)).draws.double()
    for index, place in enumerate((~is_given).nonzero().flatten().tolist()):
        values = draws[:, index]
        assert_z(torch.stack([values, values.square()], 1), SYSTEM.moments(place, rows[0], is_given))


def test_draws_have_the_moments_of_the_target(density):
    found = density.run(6000, seed=4)
    assert found.sampler == "importance"
    nothing, x = mask_of([]), found.draws[:, 0]
    assert_z(torch.stack([x, x.square()], 1), SYSTEM.moments(0, found.draws[0], nothing))
    # Draws beyond the outer cells move to the nearest label, so only the middle one has its cell's probability.
    middle = SYSTEM.log_density(torch.ones(1, 4).double(), mask_of(["class"])).exp()
    assert_z((found.draws[:, 2] == 1).double(), float(middle))


def test_values_in_cells_do_not_depend_on_how_rows_are_split(density, rows, monkeypatch):
    given = rows[:, [2, 0]]
    whole = density.marginal(["class", "x"], seed=0).log_prob(given)
    monkeypatch.setattr(proposals, "MOST_NUMBERS", 3 * 256 * 5)
    torch.testing.assert_close(density.marginal(["class", "x"], seed=0).log_prob(given), whole, rtol=1e-9, atol=1e-9)
