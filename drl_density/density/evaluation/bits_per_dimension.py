r"""Bits per dimension of 8-bit data, with every term that went into the number.

For whole numbers x in 0..255 noised to x + u, u in [-1/2, 1/2)^d,

.. math:: \text{bits/dim} = -\frac{1}{d \log 2}\Big(\log p(x + u) - \log q(u \mid x)\Big)

is an upper bound of the bits that a code built on p needs (Theis, van den Oord and Bethge 2016; Ho et al. 2019). log p is a
density over grey levels: a model of z = T(x + u) brings log |dT / dx|, which is -d log 256 for pixels scaled to [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drl_density.density.data_units import reported_noise
from drl_density.density.fitted import FittedModel, dequantized_rows
from drl_density.errors import DataError
from drl_density.records.intervals import normal_quantile

WIDEST_INTERVAL = 0.05
"""Bits per dimension: published models on the same images differ by about as much, so a wider interval decides nothing."""


@dataclass(frozen=True)
class BitsPerDimension:
    """Bits per dimension with its terms, each in bits per dimension; they add up to ``value``.

    Attributes:
        terms: name and bits per dimension of each term, in the order of the formula.
        log_z_interval: bits per dimension added at the (lower, upper) ends of the 95 % interval of log Z, of either sign.
        sampling_error: standard error of the mean over rows.
        num_rows: number of rows that were scored.
        value_range: least and largest grey level of the declared range.
        dequantization: kind of noise: "uniform", "variational", or "16 x uniform" for the mean of 16 uniform draws.
        level_noise: noise sigma_0 of the reported level, in model space.
    """

    terms: tuple[tuple[str, float], ...]
    log_z_interval: tuple[float, float]
    sampling_error: float
    num_features: int
    num_rows: int
    value_range: tuple[int, int]
    dequantization: str
    level_noise: float

    @property
    def value(self) -> float:
        """Bits per dimension: an upper bound over the noise, at the point estimate of log Z."""
        return sum(value for _, value in self.terms)

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends by the interval of log Z; for a probability other than 0.95 its 95 % ends are scaled as normal ones are."""
        scale = normal_quantile(probability) / normal_quantile()
        return self.value + scale * self.log_z_interval[0], self.value + scale * self.log_z_interval[1]

    @property
    def is_known(self) -> bool:
        """False when the interval is wider than 0.05 bits per dimension, or not finite."""
        lower, upper = self.interval()
        return upper - lower <= WIDEST_INTERVAL

    @property
    def scheme(self) -> str:
        """Everything that two figures must share to be comparable, in words."""
        low, high = self.value_range
        return f"{self.num_features} dimensions, grey levels {low}..{high}, {self.dequantization} dequantisation"

    def compare(self, other: BitsPerDimension) -> float:
        """This value minus the other's, in bits per dimension.

        Args:
            other: figure of the same scheme.

        Raises:
            DataError: figures of different schemes, which are not comparable.
        """
        if self.scheme != other.scheme:
            raise DataError(f"bits per dimension of different schemes do not compare: {self.scheme} | {other.scheme}")
        return self.value - other.value

    def audit(self) -> str:
        """The sum of the terms, line by line."""
        lower, upper = self.interval()
        lines = [f"{value:+10.4f}  {name}" for name, value in self.terms]
        result = f"{self.value:.4f} in [{lower:.4f}, {upper:.4f}] by log Z" if self.is_known else "unknown"
        if not self.is_known:
            result += f" (between {lower:.4f} and {upper:.4f} by log Z: wider than {WIDEST_INTERVAL})"
        lines.append(f"bits per dimension: {result}, +- {self.sampling_error:.4f} by {self.num_rows} rows")
        level = f"density of the level with noise {self.level_noise:g}" if self.level_noise else "density without noise"
        lines.append(f"scheme: {self.scheme}; {level}; a bound over the dequantisation noise")
        return "\n".join(lines)


def bits_per_dimension(
    log_density: Tensor,
    log_jacobian: Tensor,
    *,
    log_z: tuple[float, float, float],
    log_noise_density: Tensor | None = None,
    num_features: int,
    value_range: tuple[int, int] = (0, 255),
    level_noise: float = 0.0,
) -> BitsPerDimension:
    """Bits per dimension of rows, from the log densities of a model and the Jacobian of its transform.

    Args:
        log_density: unnormalised log density of the model at z = T(x + u) for each row ``(n,)``, nats.
        log_jacobian: log |dT / dx| for each row ``(n,)``, over grey levels.
        log_z: point estimate, lower and upper end of the model's log Z, nats.
        log_noise_density: log q(u | x) for each row ``(n,)``; None for uniform noise of one grey level.
        value_range: declared least and largest grey level.
        level_noise: noise sigma_0 of the reported level, in model space.

    Raises:
        DataError: counts of log densities and Jacobians that differ, or ends of log Z in the wrong order.

    >>> flat = bits_per_dimension(
    ...     torch.zeros(4), torch.full((4,), -3 * math.log(256)), log_z=(0.0, 0.0, 0.0), num_features=3
    ... )
    >>> round(flat.value, 6)
    8.0
    """
    count = len(log_density)
    if log_jacobian.shape != (count,) or num_features < 1 or not log_z[1] <= log_z[0] <= log_z[2]:
        raise DataError(
            f"expected one log density and one Jacobian per row and log Z as (point, lower, upper), got "
            f"{tuple(log_density.shape)}, {tuple(log_jacobian.shape)} and {log_z}"
        )
    bits = 1 / (num_features * math.log(2))
    noise = torch.zeros(count) if log_noise_density is None else log_noise_density
    parts = {
        "-log of the model's unnormalised density": -log_density.double(),
        "-log Jacobian from grey levels to model space": -log_jacobian.double(),
        "+log q(u | x) of the dequantisation noise": noise.double(),
    }
    terms = [(name, bits * float(values.mean())) for name, values in parts.items()]
    terms.insert(1, ("+log Z", bits * log_z[0]))
    rows = bits * torch.stack(list(parts.values())).sum(0)
    return BitsPerDimension(
        terms=tuple(terms),
        log_z_interval=(bits * (log_z[1] - log_z[0]), bits * (log_z[2] - log_z[0])),
        sampling_error=float(rows.std() / math.sqrt(count)) if count > 1 else math.nan,
        num_features=num_features,
        num_rows=count,
        value_range=value_range,
        dequantization="uniform" if log_noise_density is None else "variational",
        level_noise=level_noise,
    )


def importance_bits(
    density: FittedModel,
    x: Any,
    *,
    num_samples: int = 16,
    log_z: tuple[float, float, float] | None = None,
    generator: torch.Generator | None = None,
) -> BitsPerDimension:
    r"""Bits per dimension of whole numbers by several uniform draws for each row, tighter than by one.

    .. math:: -\log_2 P(x) \le -\mathrm{E} \log_2 \tfrac1K \textstyle\sum_k p(x + u_k)

    The mean of K densities inside the cell estimates the probability without bias, so the bound falls as K grows, and
    tends to the probability itself. Source: Burda, Grosse and Salakhutdinov 2016; for dequantisation Ho et al. 2019.

    Args:
        density: fit that scores the rows.
        x: complete rows ``(n, *event)`` of whole numbers in data units, such as 8-bit images.
        num_samples: number K of draws for each row.
        log_z: point estimate, lower and upper end of log Z, as of a report; those of the fit's own estimate when not given.
        generator: source of the noise.

    Raises:
        DataError: columns that are no whole numbers of one declared range, rows off that grid, or no draw.
    """
    if num_samples < 1:
        raise DataError(f"num_samples must be at least 1, got {num_samples}")
    columns = density.columns
    ends = {(column.lower + 0.5 * column.width, column.upper - 0.5 * column.width) for column in columns}
    is_whole = all(column.kind == "integer" and column.width == 1 for column in columns)
    if not is_whole or len(ends) > 1 or not all(map(math.isfinite, next(iter(ends)))):
        raise DataError(
            "bits per dimension are for whole numbers of one declared range, such as 8-bit images; the columns of this "
            "density have others: quote its log-likelihood instead"
        )
    values = []
    for _ in range(num_samples):
        rows, widths = dequantized_rows(density, x, generator=generator)
        if not bool((widths == 1).all()):
            raise DataError("expected whole numbers, got values between them: give the images without noise")
        values.append(density.log_density_of(rows))
    if log_z is None:
        estimate = density.estimate
        log_z = (estimate.log_z, *estimate.interval())
    joined = torch.stack(values).logsumexp(0) - math.log(num_samples) + density.estimate.log_z
    bits = 1 / (len(columns) * math.log(2))
    low, high = next(iter(ends))
    density_term = ("-log mean of the unnormalised density over the draws", -bits * float(joined.mean()))
    return BitsPerDimension(
        terms=(density_term, ("+log Z", bits * log_z[0])),
        log_z_interval=(bits * (log_z[1] - log_z[0]), bits * (log_z[2] - log_z[0])),
        sampling_error=float(bits * joined.std() / math.sqrt(len(joined))) if len(joined) > 1 else math.nan,
        num_features=len(columns),
        num_rows=len(joined),
        value_range=(int(low), int(high)),
        dequantization=f"{num_samples} x uniform",
        level_noise=reported_noise(density.model),
    )
