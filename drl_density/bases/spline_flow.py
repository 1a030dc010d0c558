"""Autoregressive spline flows: normalised densities of tables with many rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from drl_density.bases.contract import Base, Tail
from drl_density.bases.rational_quadratic import HALF_WIDTH, inverse_spline, spline, trained_spline
from drl_density.devices import normal_draws
from drl_density.records.fields import PositiveInt, check_fields

CHUNK = 1024
"""Rows in one pass on the CPU, whose splines stay in the cache."""

LARGE_CHUNK = 16384
"""Rows in one pass on other devices, which bounds the memory."""


@dataclass(frozen=True)
class SplineFlowSettings:
    """Sizes of a :class:`SplineFlow`.

    Attributes:
        num_features: length d of the vectors.
        num_transforms: number of autoregressive transformations; every second one takes the columns in reverse order.
        num_bins: number of bins of every spline.
        width: number of hidden units in both hidden layers of a transformation.
    """

    num_features: PositiveInt
    num_transforms: PositiveInt = 5
    num_bins: PositiveInt = 8
    width: PositiveInt = 128

    def __post_init__(self) -> None:
        check_fields(self)


class SplineFlow(Base):
    r"""A neural spline flow: a normalised density with exact draws, and without a noised form.

    .. math:: \log p(x) = \log \mathcal{N}(T(x);\ 0, I) + \log \lvert \det \partial T / \partial x \rvert

    T is a chain of transformations. Each of them maps every column through a monotone spline on [-5, 5], whose shape a
    masked network reads from the columns before it. Outside that box the splines are the identity, so rows are expected in
    the units of Gaussianised columns. A new flow is the standard normal density exactly.

    No transformation moves a column by more than 10, and its slopes are bounded, so the log density falls as
    :math:`-\lVert x \rVert^2 / 2` up to linear terms, in every direction. There are no trainable parameters; the weights
    are float32 buffers, which :func:`~drl_density.bases.fitting.fit_spline_flow` fits.

    Args:
        settings: sizes of the flow.
        generator: source of the initial weights.

    Source: Durkan et al. 2019, "Neural spline flows" (arXiv 1906.04032); Germain et al. 2015, "MADE", for the masks.

    >>> flow = SplineFlow(SplineFlowSettings(2, width=16), generator=torch.Generator().manual_seed(0))
    >>> flow.sample(3).shape, flow.has_noised_form
    (torch.Size([3, 2]), False)
    >>> flow.log_prob(torch.zeros(1, 2))
    tensor([-1.8379])
    """

    kind = "spline_flow"
    has_noised_form = False
    has_quick_draws = False

    def __init__(self, settings: SplineFlowSettings, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.transforms = nn.ModuleList(
            AutoregressiveSplines(settings, is_reversed=index % 2 == 1, generator=generator)
            for index in range(settings.num_transforms)
        )

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return self.settings.num_features

    @property
    def tail(self) -> Tail:
        """Quadratic decay, with covariance I."""
        return Tail.QUADRATIC

    def weights(self) -> Iterator[Tensor]:
        """Iterate over the weights, which are all that a state holds."""
        return iter(self.state_dict(keep_vars=True).values())

    def to_state(self) -> dict[str, Any]:
        """Plain values: the sizes of the flow."""
        return {"kind": self.kind, **dataclasses.asdict(self.settings)}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build a flow of the sizes in ``values``, whose weights wait for ``load_state_dict``."""
        sizes = {name: value for name, value in values.items() if name != "kind"}
        return cls(SplineFlowSettings(**sizes), generator=torch.Generator())

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``x`` ``(n, *event)``, in nats, ``(n,)``; slopes and squares are summed in float64."""
        chunk = CHUNK if x.device.type == "cpu" else LARGE_CHUNK
        return torch.cat([self._log_prob(part) for part in x.flatten(1).split(chunk)])

    def log_prob_under_dropout(self, x: Tensor, share: float, *, generator: torch.Generator | None = None) -> Tensor:
        """Log density of rows under networks of which some hidden units are left out, for training, ``(n,)``.

        Args:
            x: rows ``(n, d)``, all in one pass.
            share: share of the hidden units that is left out, in [0, 1), anew for every row and transformation. A random
                byte decides, so it is rounded to a multiple of 1/256.

        First derivatives alone are available: those of the splines are in closed form.
        """
        least = min(round(256 * share), 255)

        def drop(hidden: Tensor) -> Tensor:
            is_kept = _random_bytes(hidden, generator) >= least
            return torch.where(is_kept, hidden * (256 / (256 - least)), 0.0)

        return self._log_prob(x, drop if least else None, is_training=True)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)``, column by column, at the cost of two to three log densities."""
        noise = normal_draws((num_samples, self.num_features), next(self.weights()), generator)
        chunk = CHUNK if noise.device.type == "cpu" else LARGE_CHUNK
        with torch.no_grad():
            return torch.cat([self._inverse(part) for part in noise.split(chunk)])

    def covariances(self, log_snr: Tensor | None = None) -> Tensor:
        """Covariance ``(1, d, d)`` of the decay far out: I at every log-SNR ``()``, and without noise."""
        return torch.eye(self.num_features, device=next(self.weights()).device)[None]

    def _log_prob(
        self, x: Tensor, drop: Callable[[Tensor], Tensor] | None = None, *, is_training: bool = False
    ) -> Tensor:
        value, total = x.T, torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for transform in self.transforms:
            value, log_slope = transform(value, drop, is_training=is_training)
            total = total + log_slope.sum(0, dtype=torch.float64)
        distance = value.double().square().sum(0)
        return (total - 0.5 * (distance + self.num_features * math.log(2 * math.pi))).to(x)

    def _inverse(self, noise: Tensor) -> Tensor:
        value = noise.T
        for transform in reversed(list(self.transforms)):
            assert isinstance(transform, AutoregressiveSplines)
            value = transform.inverse(value)
        return value.T


class AutoregressiveSplines(nn.Module):
    r"""A transformation that maps column i through a spline whose shape is a function of the columns before it.

    The network has two hidden layers. Unit u belongs to a column :math:`m_u` and sees the columns before :math:`m_u` alone.
    Units are in the order of their columns, so that :meth:`inverse` evaluates each of them once. Columns enter the network
    as :math:`5 \tanh(x / 5)`, which keeps it bounded for rows far out. Vectors are the columns of a matrix ``(d, n)``:
    the sums over the bins of a spline then run over contiguous memory.

    Args:
        settings: sizes of the flow.
        is_reversed: whether columns are taken from last to first.
        generator: source of the initial weights; those of the last layer are 0, which gives the identity.

    >>> layer = AutoregressiveSplines(SplineFlowSettings(3, width=8), is_reversed=False)
    >>> x = torch.randn(3, 5)
    >>> torch.allclose(layer(x)[0], x, atol=1e-5)
    True
    """

    seen: Tensor

    def __init__(
        self, settings: SplineFlowSettings, *, is_reversed: bool, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        num_features, width = settings.num_features, settings.width
        self.shape = (3 * settings.num_bins - 1, num_features)
        self.is_reversed = is_reversed
        place = torch.arange(num_features)
        seen = 1 + torch.arange(width) * max(1, num_features - 1) // width
        self.ends = [int((seen <= column).sum()) for column in range(num_features)]
        masks = (seen[:, None] > place, seen[:, None] >= seen, (place[:, None] >= seen).repeat(self.shape[0], 1))
        for index, mask in enumerate(masks):
            bound = mask.shape[1] ** -0.5 if index < 2 else 0.0
            for name, size in (("weight", mask.shape), ("bias", (len(mask), 1))):
                values = bound * (2 * torch.rand(size, generator=generator) - 1)
                self.register_buffer(f"{name}_{index}", values)
            self.register_buffer(f"mask_{index}", mask.float(), persistent=False)

    def forward(
        self, x: Tensor, drop: Callable[[Tensor], Tensor] | None = None, *, is_training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Map vectors ``x`` ``(d, n)``; return the values and the logarithms of the splines' slopes, both ``(d, n)``.

        Args:
            x: vectors in the columns of a matrix.
            drop: a function of the hidden units ``(width, n)`` that leaves some of them out.
            is_training: whether first derivatives suffice, which are quicker.
        """
        ordered = x.flip(0) if self.is_reversed else x
        hidden = _seen(ordered)
        for index in range(2):
            weight, bias = self._layer(index, x)
            hidden = torch.addmm(bias, weight, hidden).relu()
            hidden = hidden if drop is None else drop(hidden)
        weight, bias = self._layer(2, x)
        raw = torch.addmm(bias, weight, hidden).unflatten(0, self.shape)
        value, log_slope = (trained_spline if is_training else spline)(ordered, raw)
        return (value.flip(0) if self.is_reversed else value), log_slope

    def inverse(self, y: Tensor) -> Tensor:
        """Find the vectors ``(d, n)`` that are mapped to ``y``, without gradients.

        The quadratic formula is evaluated in float64: in float32 its discriminant can be rounded below 0.

        Args:
            y: vectors in the columns of a matrix.
        """
        ordered = y.flip(0) if self.is_reversed else y
        (weight_0, bias_0), (weight_1, bias_1), last = (self._layer(index, y) for index in range(3))
        weight_2, bias_2 = (part.unflatten(0, self.shape) for part in last)
        found, inputs = torch.empty_like(ordered), torch.empty_like(ordered)
        first, second = (y.new_empty(len(weight_0), y.shape[1]) for _ in range(2))
        start = 0
        for column, end in enumerate(self.ends):
            new = slice(
                start, end
            )  # units that see the columns before this one, and did not see all of those before it
            first[new] = torch.addmm(bias_0[new], weight_0[new, :column], inputs[:column]).relu()
            second[new] = torch.addmm(bias_1[new], weight_1[new, :end], first[:end]).relu()
            raw = torch.addmm(bias_2[:, column], weight_2[:, column, :end], second[:end])
            found[column] = inverse_spline(ordered[column].double(), raw).to(y)
            inputs[column], start = _seen(found[column]), end
        return found.flip(0) if self.is_reversed else found

    def _layer(self, index: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Masked weights and biases of a layer, in the dtype of ``like``."""
        weight, bias, mask = (getattr(self, f"{name}_{index}") for name in ("weight", "bias", "mask"))
        return (weight * mask).to(like), bias.to(like)


def _random_bytes(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform random bytes of the shape and on the device of ``like``: eight to a draw, a quarter of the time of floats."""
    count, home = like.numel(), like.device if generator is None else generator.device
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=home).random_(-(2**63), None, generator=generator)
    return words.view(torch.uint8)[:count].view(like.shape).to(like.device)


def _seen(x: Tensor) -> Tensor:
    """Columns as the networks see them."""
    return HALF_WIDTH * (x / HALF_WIDTH).tanh()
