"""A sequence on a mixture with a bounded tilt, in two dimensions, whose density is known by quadrature."""

import torch
from torch import nn

from drl_density import NoiseSchedule
from drl_density.bases import NoisedGaussianMixture
from drl_density.model import EnergySequence
from tests.density.closed_form import SCALE, SHIFT, closed_form_density


class BoundedTilt(nn.Module):
    """A smooth function between -height and height, and a parameter that changes nothing."""

    is_bounded = True

    def __init__(self, height):
        super().__init__()
        self.height, self.nothing = height, nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, log_snr):
        return self.height * torch.tanh(2 * x[:, 0] * x[:, 1] - x[:, 0] + 0.5) + self.nothing


GRID = torch.linspace(-9, 9, 1801, dtype=torch.float64)
"""Points of the quadrature, 0.01 apart: the trapezoidal rule is exact to rounding on such smooth, decaying functions."""


class TiltedSystem:
    """Two correlated Gaussians apart along the first axis, times the exponential of a bounded tilt."""

    dim = 2

    def __init__(self, height=1.0):
        means = torch.tensor([[-1.2, 0.3], [1.1, -0.4]])
        covariances = torch.tensor([[[0.15, 0.08], [0.08, 0.4]], [[0.3, -0.1], [-0.1, 0.2]]])
        base = NoisedGaussianMixture(torch.tensor([0.4, 0.6]), means, covariances)
        self.model = EnergySequence(
            NoiseSchedule.log_spaced(5), BoundedTilt(height), (2,), base=base, dtype=torch.float64
        )
        self.height = height

    def log_density(self, x):
        """F_0 of rows ``(n, 2)``."""
        with torch.no_grad():
            return self.model.log_density(x, 0)

    def slice(self, value, place=1):
        """Log values of F_0 on the grid of the other coordinate, with one coordinate given."""
        points = torch.full((len(GRID), 2), float(value), dtype=torch.float64)
        points[:, 1 - place] = GRID
        return self.log_density(points)

    def log_mass(self, value, place=1):
        """Log integral of F_0 over the other coordinate."""
        return self.slice(value, place).logsumexp(0) + (GRID[1] - GRID[0]).log()

    def log_z(self, level):
        """Log integral of F_0."""
        assert level == 0
        return (
            torch.stack([self.log_mass(value) for value in GRID[::10]]).logsumexp(0) + (10 * (GRID[1] - GRID[0])).log()
        )

    def moments(self, value, place=1):
        """First and second moment of the other coordinate, given one."""
        shares = self.slice(value, place).softmax(0)
        return torch.stack([shares @ GRID, shares @ GRID.square()])

    def sample(self, num_samples, level, *, generator):
        """Exact draws by rejection: the tilt is at most its height."""
        assert level == 0
        found = torch.empty(0, 2, dtype=torch.float64)
        while len(found) < num_samples:
            x = self.model.base.noised(self.model.schedule.log_snr_at(0)).sample(4 * num_samples, generator=generator)
            with torch.no_grad():
                chance = (self.model.tilt(x.double(), 0) - self.height).exp()
            found = torch.cat([found, x[torch.rand(len(x), generator=generator) < chance].double()])
        return found[:num_samples]


def tilted_density(height=1.0):
    """The system behind the map u = (x - SHIFT) / SCALE."""
    return closed_form_density(TiltedSystem(height))


def to_data(u):
    return SHIFT + SCALE * u
