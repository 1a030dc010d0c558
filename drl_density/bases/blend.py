"""The weighted average of several normalised densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from drl_density.bases.contract import Base, Tail
from drl_density.bases.gaussian_mixture import draw_components


class BlendedBase(Base):
    r"""A mixture of densities of any kind, such as a Gaussian mixture and two flows; it has no noised form.

    .. math:: b(x) = \sum_i w_i\, b_i(x)

    It is normalised as far as its members are. Rows far from what one member was fitted to are often nearer to another's, so
    an average of unlike densities scores better than each of them. Draws are exact: each comes from one of the members.

    Args:
        members: densities of vectors of one length, at least one.
        weights: positive weights ``(G,)``, which are divided by their sum.

    Raises:
        ValueError: densities of different lengths, or weights that do not fit them.

    >>> from drl_density.bases import AutoregressiveFlow, AutoregressiveFlowSettings, NoisedGaussianMixture
    >>> flow = AutoregressiveFlow(AutoregressiveFlowSettings(2, width=8))
    >>> base = BlendedBase([NoisedGaussianMixture.standard(2), flow], torch.tensor([0.3, 0.7]))
    >>> base.log_prob(torch.zeros(1, 2)), base.sample(3).shape
    (tensor([-1.8379]), torch.Size([3, 2]))
    """

    kind = "blend"
    has_noised_form = False
    has_quick_draws = False

    log_weights: Tensor

    def __init__(self, members: Sequence[Base], weights: Tensor) -> None:
        super().__init__()
        lengths = sorted({member.num_features for member in members})
        if len(lengths) != 1 or weights.shape != (len(members),):
            raise ValueError(
                "expected densities of vectors of one length and a weight for each, got "
                f"{len(members)} of lengths {lengths} and weights of shape {tuple(weights.shape)}"
            )
        if not bool((weights > 0).all() & weights.isfinite().all()):
            raise ValueError(f"expected positive weights, got {weights.tolist()}: leave out members without weight")
        self.parts = nn.ModuleList(members)
        self.register_buffer("log_weights", weights.double().log().log_softmax(0).float())

    @property
    def members(self) -> list[Base]:
        """Densities that are averaged."""
        return [part for part in self.parts if isinstance(part, Base)]

    @property
    def weights(self) -> Tensor:
        """Weights of the members ``(G,)``, float64, whose sum is 1."""
        return self._normalized_log_weights().exp()

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return self.members[0].num_features

    @property
    def num_components(self) -> int:
        """Number of components of all members together."""
        return sum(member.num_components for member in self.members)

    @property
    def tail(self) -> Tail:
        """Quadratic decay if all members have it."""
        is_quadratic = all(member.tail is Tail.QUADRATIC for member in self.members)
        return Tail.QUADRATIC if is_quadratic else Tail.UNKNOWN

    def to_state(self) -> dict[str, Any]:
        """Plain values of the members."""
        return {"kind": self.kind, "members": [member.to_state() for member in self.members]}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build the density from the saved ``values``, in which the members are built already.

        :func:`~drl_density.bases.base_from_state` builds the members of a state before the whole.
        """
        return cls(values["members"], torch.ones(len(values["members"])))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``x`` ``(n, *event)``, in nats, ``(n,)``; members are summed in float64."""
        values = torch.stack([member.log_prob(x).double() for member in self.members])
        return (values + self._normalized_log_weights()[:, None]).logsumexp(0).to(x)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)``, each from one of the members, in random order."""
        if num_samples == 0:
            return self.log_weights.new_empty(0, self.num_features)
        chosen = draw_components(self.log_weights, num_samples, generator)
        drawn = self.log_weights.new_empty(num_samples, self.num_features)
        for index, member in enumerate(self.members):
            is_here = chosen == index
            count = int(is_here.sum())
            if count:
                drawn[is_here] = member.sample(count, generator=generator).to(drawn)
        return drawn

    def covariances(self, log_snr: Tensor | None = None) -> Tensor:
        """Covariances ``(K, d, d)`` of the decay of all members together, float64, at one log-SNR ``()``."""
        return torch.cat([member.covariances(log_snr).double() for member in self.members])

    def _normalized_log_weights(self) -> Tensor:
        """Log weights in float64; those that are stored are rounded, so that their sum is 1 to seven digits only."""
        return self.log_weights.double().log_softmax(0)
