"""Log evidence without a run: a sandwich of chosen ends and verdict about a model of one site."""

import dataclasses

import pyro
import pyro.distributions as dist
import torch

from drl_density import ModelEvidence, joint_density
from drl_density.errors import Verdict


@dataclasses.dataclass(frozen=True)
class MadeUpSandwich:
    """The part of a sandwich that a comparison reads; ends for probabilities other than 0.95 scale with their distance."""

    log_z: float
    half_width: float = 0.1
    verdict: Verdict = Verdict.RELIABLE
    advice: str = "all checks hold"
    standard_error: float = 0.05
    draws: torch.Tensor | None = None

    @property
    def lower(self):
        return self.interval()[0]

    @property
    def upper(self):
        return self.interval()[1]

    def interval(self, probability=0.95):
        half_width = self.half_width * probability / 0.95
        return self.log_z - half_width, self.log_z + half_width


def conjugate(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def flat(y):
    mean = pyro.sample("mean", dist.ImproperUniform(dist.constraints.real, (), ()))
    pyro.sample("y", dist.Normal(mean, 1.0).expand([len(y)]).to_event(1), obs=y)


Y = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)


def evidence_of(log_z, model=conjugate, **changes):
    return ModelEvidence(MadeUpSandwich(log_z, **changes), joint_density(model, Y).log_density, seed=0)
