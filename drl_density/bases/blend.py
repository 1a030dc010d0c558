"""The weighted average of several normalised densities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from drl_density.bases.contract import Base, Conditional, Numbers, Tail
from drl_density.bases.gaussian_mixture import draw_components
from drl_density.log_weights import chosen_by_share


class BlendedBase(Base):
    r"""A mixture of densities of any kind, such as a Gaussian mixture and two flows; it has no noised form.

    .. math:: b(x) = \sum_i w_i\, b_i(x)

    It is normalised as far as its members are, and has conditionals where all of them have. Rows far from what one member
    was fitted to are often nearer to another's, so an average of unlike densities scores better than each of them. Draws
    are exact: each comes from one of the members.

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
        self.has_quick_draws = all(member.has_quick_draws for member in members)
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

    def conditional(self, log_snr: Tensor | None = None) -> Conditional:
        """Marginals and conditionals of the average, at one log-SNR ``()``; None means without noise.

        Raises:
            NotImplementedError: a member without conditionals.
        """
        laws = [member.conditional(log_snr) for member in self.members]
        return _BlendedConditional(self._normalized_log_weights(), laws)

    def _normalized_log_weights(self) -> Tensor:
        """Log weights in float64; those that are stored are rounded, so that their sum is 1 to seven digits only."""
        return self.log_weights.double().log_softmax(0)


class _BlendedConditional(Conditional):
    """Marginals and conditionals of a blend: those of the members, weighted by the marginals of what is observed.

    Args:
        log_weights: normalised log weights of the members, ``(G,)``.
        laws: conditionals of the members.
    """

    def __init__(self, log_weights: Tensor, laws: Sequence[Conditional]) -> None:
        self.log_weights, self.laws = log_weights, laws

    def observed_log_density(self, x: Tensor, is_missing: Tensor) -> Tensor:
        """See :meth:`Conditional.observed_log_density <drl_density.bases.Conditional.observed_log_density>`."""
        values = torch.stack([law.observed_log_density(x, is_missing) for law in self.laws])
        return (values + self.log_weights[:, None]).logsumexp(0)

    def draw(self, x: Tensor, is_missing: Tensor, num_samples: int, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """See :meth:`Conditional.draw <drl_density.bases.Conditional.draw>`."""
        num_rows, num_points, _ = x.shape
        streams = _Streams(numbers, num_rows)
        noise = streams(torch.arange(num_rows), (num_points, num_samples)).to(x.device)
        found = []
        for law in self.laws:
            streams.advance()
            found.append(law.draw(x, is_missing, num_samples, streams))
        logs = torch.stack([height for _, height in found], -1) + self.log_weights
        chosen = chosen_by_share(logs.softmax(-1).cumsum(-1), torch.special.ndtr(noise))
        draws = torch.stack([drawn for drawn, _ in found])
        index = chosen[None, ..., None].expand(1, *draws.shape[1:])
        return draws.gather(0, index)[0], logs.logsumexp(-1)


class _Streams:
    """The random numbers of each row in succession: a source may give a row the same ones at every call.

    How many of its numbers a row has used depends on that row alone, so that its draws do not depend on the others.

    Args:
        numbers: source of standard normal numbers; the longer ones of a row begin with the shorter ones.
        num_rows: number of rows.
    """

    def __init__(self, numbers: Numbers, num_rows: int) -> None:
        self.numbers = numbers
        self.used = torch.zeros(num_rows, dtype=torch.int64)
        self.most = self.used.clone()

    def __call__(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        places = rows.cpu()
        first, size = self.used[places], math.prod(shape)
        self.most[places] = torch.maximum(self.most[places], first + size)
        found = self.numbers(rows, (int(first.max()) + size,))
        index = (first[:, None] + torch.arange(size)).to(found.device)
        return found.gather(1, index).reshape(len(rows), *shape)

    def advance(self) -> None:
        """Leave out from now on what was used so far."""
        self.used = self.most.clone()
