"""Autoregressive flows of splines and affine maps: normalised densities of tables with many rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from drl_density.bases.contract import Base, Tail
from drl_density.bases.flows.affine import LEAST_SLOPE, affine, inverse_affine
from drl_density.bases.flows.rational_quadratic import HALF_WIDTH, inverse_spline, spline, trained_spline
from drl_density.devices import normal_draws
from drl_density.records.fields import PositiveInt, check_fields

CHUNK = 1024
"""Rows in one pass on the CPU, whose splines stay in the cache."""

LARGE_CHUNK = 16384
"""Rows in one pass on other devices, which bounds the memory."""


Elementwise = Literal["spline", "affine", "both"]
"""Maps of a column: a spline, an affine map, or an affine map followed by a spline."""


@dataclass(frozen=True)
class AutoregressiveFlowSettings:
    """Sizes of a :class:`AutoregressiveFlow`.

    Attributes:
        num_features: length d of the vectors.
        num_transforms: number of autoregressive transformations; every second one takes the columns in reverse order.
        num_bins: number of bins of every spline; affine maps have none.
        width: number of hidden units in both hidden layers of a transformation.
        elementwise: map of each column: "spline", "affine", or "both", an affine map followed by a spline.
    """

    num_features: PositiveInt
    num_transforms: PositiveInt = 5
    num_bins: PositiveInt = 8
    width: PositiveInt = 128
    elementwise: Elementwise = "spline"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def has_affine_maps(self) -> bool:
        """Whether a transformation holds an affine map of each column."""
        return self.elementwise != "spline"

    @property
    def has_splines(self) -> bool:
        """Whether a transformation holds a spline of each column."""
        return self.elementwise != "affine"

    @property
    def num_parameters(self) -> int:
        """Numbers that shape the map of one column in one transformation."""
        return 2 * self.has_affine_maps + (3 * self.num_bins - 1) * self.has_splines


class AutoregressiveFlow(Base):
    r"""An autoregressive flow: a normalised density with exact draws, but without a noised form.

    .. math:: \log p(x) = \log \mathcal{N}(T(x);\ 0, I) + \log \lvert \det \partial T / \partial x \rvert

    T is a chain of transformations. Each of them maps every column monotonically, and a masked network reads the shape of
    the map from the columns before it. The map is a spline on [-5, 5], an affine map, or both in turn. Outside their box
    splines are the identity, so rows are expected in the units of Gaussianised columns. A new flow is the standard normal
    density exactly.

    Splines represent conditional densities of any shape. Affine maps are several times as quick, and follow columns that are
    nearly functions of others.

    The networks and the slopes are bounded. The log density therefore falls at least as :math:`-c \lVert x \rVert^2 / 2`
    up to linear terms, in every direction, with c = 1 for splines. There are no trainable parameters; the weights
    are float32 buffers, which :func:`~drl_density.bases.fitting.fit_flow` fits.

    Args:
        settings: sizes of the flow.
        generator: source of the initial weights.

    Source: Durkan et al. 2019, "Neural spline flows" (arXiv 1906.04032); Papamakarios et al. 2017, "Masked autoregressive
    flow" (arXiv 1705.07057), for affine maps; Germain et al. 2015, "MADE", for the masks.

    >>> flow = AutoregressiveFlow(AutoregressiveFlowSettings(2, width=16), generator=torch.Generator().manual_seed(0))
    >>> flow.sample(3).shape, flow.has_noised_form
    (torch.Size([3, 2]), False)
    >>> flow.log_prob(torch.zeros(1, 2))
    tensor([-1.8379])
    """

    kind = "autoregressive_flow"
    has_noised_form = False
    has_quick_draws = False

    def __init__(self, settings: AutoregressiveFlowSettings, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.transforms = nn.ModuleList(
            AutoregressiveTransform(settings, is_reversed=index % 2 == 1, generator=generator)
            for index in range(settings.num_transforms)
        )

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return self.settings.num_features

    @property
    def tail(self) -> Tail:
        """Quadratic decay, with the covariance of :meth:`covariances`."""
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
        return cls(AutoregressiveFlowSettings(**sizes), generator=torch.Generator())

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``x`` ``(n, *event)``, in nats, ``(n,)``; slopes and squares are summed in float64."""
        chunk = CHUNK if x.device.type == "cpu" else LARGE_CHUNK
        return torch.cat([self._log_prob(part) for part in x.flatten(1).split(chunk)])

    def log_prob_under_dropout(self, x: Tensor, share: float, *, generator: torch.Generator | None = None) -> Tensor:
        """Log density of rows under networks of which some hidden units are left out, for training, ``(n,)``.

        Args:
            x: rows ``(n, d)``, all in one pass.
            share: share of the hidden units that is left out, in [0, 1), drawn for every row and transformation. A random
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
        """Covariance ``(1, d, d)`` of the slowest decay far out, at every log-SNR ``()``, and without noise.

        It is I for splines. For affine maps it is the bound that follows from the least slope of every transformation.
        """
        least = LEAST_SLOPE**self.settings.num_transforms if self.settings.has_affine_maps else 1.0
        identity = torch.eye(self.num_features, dtype=torch.float64, device=next(self.weights()).device)
        return identity[None] / least**2

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
            assert isinstance(transform, AutoregressiveTransform)
            value = transform.inverse(value)
        return value.T


class AutoregressiveTransform(nn.Module):
    r"""A transformation that maps column i monotonically, by a map whose shape is a function of the columns before it.

    The network has two hidden layers. Unit u belongs to a column :math:`m_u` and sees the columns before :math:`m_u` alone.
    Units are in the order of their columns, so that :meth:`inverse` evaluates each of them once. Columns enter the network
    as :math:`5 \tanh(x / 5)`, which keeps it bounded for rows far out. Vectors are the columns of a matrix ``(d, n)``:
    the sums over the bins of a spline then run over contiguous memory.

    Args:
        settings: sizes of the flow.
        is_reversed: whether columns are taken from last to first.
        generator: source of the initial weights; those of the last layer are 0, which gives the identity.

    >>> layer = AutoregressiveTransform(AutoregressiveFlowSettings(3, width=8), is_reversed=False)
    >>> x = torch.randn(3, 5)
    >>> torch.allclose(layer(x)[0], x, atol=1e-5)
    True
    """

    seen: Tensor

    def __init__(
        self, settings: AutoregressiveFlowSettings, *, is_reversed: bool, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        num_features, width = settings.num_features, settings.width
        self.settings, self.shape = settings, (settings.num_parameters, num_features)
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
        """Map vectors ``x`` ``(d, n)``; return the values and the logarithms of the slopes, both ``(d, n)``.

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
        value, log_slope = self._map(ordered, raw, is_training=is_training)
        return (value.flip(0) if self.is_reversed else value), log_slope

    def inverse(self, y: Tensor) -> Tensor:
        """Find the vectors ``(d, n)`` that are mapped to ``y``, without gradients.

        The inverse maps are evaluated in float64: in float32 the discriminant of a spline's quadratic formula can be rounded
        below 0.

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
            found[column] = self._inverse_map(ordered[column].double(), raw).to(y)
            inputs[column], start = _seen(found[column]), end
        return found.flip(0) if self.is_reversed else found

    def _map(self, x: Tensor, raw: Tensor, *, is_training: bool) -> tuple[Tensor, Tensor]:
        """Values and logarithms of the slopes of every column's map, whose unconstrained parameters are ``raw``."""
        last = trained_spline if is_training else spline
        if not self.settings.has_affine_maps:
            return last(x, raw)
        value, log_slope = affine(x, raw[:2])
        if not self.settings.has_splines:
            return value, log_slope
        value, further = last(value, raw[2:])
        return value, log_slope + further

    def _inverse_map(self, y: Tensor, raw: Tensor) -> Tensor:
        """The numbers that :meth:`_map` takes to ``y``, in float64."""
        if not self.settings.has_affine_maps:
            return inverse_spline(y, raw)
        value = inverse_spline(y, raw[2:]) if self.settings.has_splines else y
        return inverse_affine(value, raw[:2])

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
