"""Autoregressive spline flows as reference densities."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from drl_density.bases.contract import Base, Tail
from drl_density.devices import normal_draws

CHUNK = 4096
"""Rows in one pass, which bounds the memory of the splines' parameters."""


@dataclass(frozen=True)
class FlowSettings:
    """Sizes of a :class:`SplineFlow`.

    Attributes:
        num_features: length d of the vectors.
        num_transforms: number of autoregressive transformations.
        num_bins: number of bins of every spline.
        width: number of hidden units in both hidden layers of the conditioners.
    """

    num_features: int
    num_transforms: int = 3
    num_bins: int = 8
    width: int = 64


class SplineFlow(Base):
    """A neural spline flow: a normalised density with exact draws, without a noised form.

    It is used without gradients once it is fitted. Outside [-5, 5] the splines are the identity, so the tails are those of
    the standard normal base, moved by earlier transformations.

    Args:
        settings: sizes of the flow.
        seed: seed of the initial weights.

    Source: Durkan et al. 2019, "Neural spline flows"; the implementation is zuko's.

    >>> flow = SplineFlow(FlowSettings(2))
    >>> flow.sample(3, generator=torch.Generator().manual_seed(0)).shape, flow.has_noised_form
    (torch.Size([3, 2]), False)
    """

    kind: ClassVar[str] = "spline_flow"
    has_noised_form: ClassVar[bool] = False

    def __init__(self, settings: FlowSettings, *, seed: int = 0) -> None:
        super().__init__()
        import zuko  # slow to import

        self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.flow: nn.Module = zuko.flows.NSF(
                settings.num_features,
                transforms=settings.num_transforms,
                bins=settings.num_bins,
                hidden_features=(settings.width, settings.width),
            )

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return self.settings.num_features

    @property
    def tail(self) -> Tail:
        """Not known to outweigh a network of linear growth: the conditioners may stretch the tails."""
        return Tail.UNKNOWN

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``x`` ``(n, *event)``, in nats, ``(n,)``."""
        return torch.cat([self.flow().log_prob(part) for part in x.flatten(1).split(CHUNK)])

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)``; d passes, as the flow is autoregressive."""
        like = next(self.flow.parameters())
        noise = normal_draws((num_samples, self.num_features), like, generator)
        with torch.no_grad():
            return torch.cat([self.flow().transform.inv(part) for part in noise.split(CHUNK)])

    def to_state(self) -> dict[str, Any]:
        """Sizes of the flow."""
        return {"kind": self.kind, **dataclasses.asdict(self.settings)}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build a flow of the sizes in ``values``, whose weights wait for ``load_state_dict``."""
        return cls(FlowSettings(**{name: value for name, value in values.items() if name != "kind"}))
