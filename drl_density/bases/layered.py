"""A base made of two: one without noise, the other under noise."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from drl_density.bases.contract import Base, Conditional, Draw, Tail


class LayeredBase(Base):
    r"""Two densities of the same rows: a sharp one for clean rows, and one with noised forms for noisy rows.

    Level 0 of a sequence carries the density that is reported, and a flow is closest to the data there; but a flow has no
    noised form. Every noisier level therefore has another reference, such as a Gaussian mixture. The rule is

    .. math:: b_\lambda(x) = \begin{cases} b^\mathrm{clean}(x) & \lambda \ge \lambda_0 \\
        b^\mathrm{noisy}_\lambda(x) & \lambda < \lambda_0 \end{cases}

    with :math:`\lambda_0` the log-SNR of level 0. On level 0 the clean density is evaluated as it is, without the noise of
    that level, and :meth:`sample_at` draws there from the same density. Both sides of the comparison are rounded to float32,
    so that log-SNRs of either dtype fall on the same side. Draws of a noisy level are noised draws of the noisy density,
    never of the clean one.

    Every level is normalised and has exact draws, so contrast, importance sampling and annealing along the levels are exact.
    The density jumps from the clean base to the noisy one just above level 0: that costs the estimators variance, and adds
    no bias. The sequence is meant to begin at ``clean_log_snr``; truncated to a noisier level, it uses the noisy
    density alone.

    Args:
        clean: density of the clean rows.
        noisy: density with noised forms, of vectors of the same length.
        clean_log_snr: log-SNR of level 0, ``float(schedule.log_snr_at(0))``.

    Raises:
        ValueError: densities of different lengths, or a noisy one without noised forms.

    >>> from drl_density.bases import NoisedGaussianMixture, AutoregressiveFlow, AutoregressiveFlowSettings
    >>> flow, mixture = AutoregressiveFlow(AutoregressiveFlowSettings(2, width=8)), NoisedGaussianMixture.standard(2)
    >>> base = LayeredBase(flow, mixture, 6.0)
    >>> x = torch.randn(3, 2)
    >>> torch.equal(base(x, torch.tensor(6.0)), flow.log_prob(x))
    True
    >>> torch.equal(base(x, torch.tensor(5.9)), mixture(x, torch.tensor(5.9)))
    True
    """

    kind = "layered"

    def __init__(self, clean: Base, noisy: Base, clean_log_snr: float) -> None:
        super().__init__()
        if clean.num_features != noisy.num_features or not noisy.has_noised_form:
            raise ValueError(
                "expected two densities of vectors of one length, the noisy one with noised forms, got "
                f"{type(clean).__name__} of length {clean.num_features} and {type(noisy).__name__} of length "
                f"{noisy.num_features}"
            )
        self.clean, self.noisy = clean, noisy
        self.clean_log_snr = float(clean_log_snr)

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return self.clean.num_features

    @property
    def num_components(self) -> int:
        """Number of components of the larger of the two mixtures."""
        return max(self.clean.num_components, self.noisy.num_components)

    @property
    def tail(self) -> Tail:
        """Quadratic decay if both densities have it."""
        is_quadratic = self.clean.tail is Tail.QUADRATIC and self.noisy.tail is Tail.QUADRATIC
        return Tail.QUADRATIC if is_quadratic else Tail.UNKNOWN

    def is_clean(self, log_snr: Tensor | None) -> Tensor:
        """Whether log-SNRs of any shape belong to the clean density; None, without noise, does."""
        if log_snr is None:
            return torch.tensor(True)
        return log_snr.float() >= torch.tensor(self.clean_log_snr, device=log_snr.device)

    def to_state(self) -> dict[str, Any]:
        """Plain values of both densities, and the log-SNR between them."""
        parts = {"clean": self.clean.to_state(), "noisy": self.noisy.to_state()}
        return {"kind": self.kind, **parts, "clean_log_snr": self.clean_log_snr}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build the density from the saved ``values``, in which both parts are built already.

        :func:`~drl_density.bases.base_from_state` builds the parts of a state before the whole.
        """
        return cls(values["clean"], values["noisy"], values["clean_log_snr"])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density without noise of rows ``x`` ``(n, *event)``, in nats, ``(n,)``: that of the clean density."""
        return self.clean.log_prob(x)

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)`` from the clean density."""
        return self.clean.sample(num_samples, generator=generator)

    def sample_at(
        self,
        log_snr: Tensor,
        num_samples: int,
        *,
        generator: torch.Generator | None = None,
        draw: Draw | None = None,
    ) -> Tensor:
        """Draw vectors ``(num_samples, d)``, each from the density of its level.

        Args:
            log_snr: ``()`` for all draws or ``(num_samples,)``.
            num_samples: how many vectors to draw; equal to the length of ``log_snr`` if each has a level of its own.
            draw: source of the draws of both densities without noise; their own independent draws when not given.
        """
        is_clean = self.is_clean(log_snr).expand(num_samples)
        num_clean = int(is_clean.sum())
        if num_clean == 0:
            return self.noisy.sample_at(log_snr, num_samples, generator=generator, draw=draw)
        clean = (draw or type(self.clean).sample)(self.clean, num_clean, generator=generator)
        if num_clean == num_samples:
            return clean
        noisy = self.noisy.sample_at(log_snr[~is_clean], num_samples - num_clean, generator=generator, draw=draw)
        drawn = noisy.new_empty(num_samples, self.num_features)
        drawn[~is_clean] = noisy
        drawn[is_clean] = clean.to(noisy)
        return drawn

    def noised(self, log_snr: Tensor) -> Base:
        """The density of one log-SNR ``()``: the clean one as it is, or the noised form of the noisy one."""
        return self.clean if bool(self.is_clean(log_snr)) else self.noisy.noised(log_snr)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Log density of rows under the density of their level, in nats, ``(n,)``, in the dtype of ``x``.

        Args:
            x: rows of shape ``(n, *event)``.
            log_snr: ``()`` for all rows or ``(n,)``.
        """
        is_clean = self.is_clean(log_snr)
        if bool(is_clean.all()):
            return self.clean.log_prob(x)
        if not bool(is_clean.any()):
            return self.noisy(x, log_snr)
        values = x.new_empty(len(x))
        is_noisy = ~is_clean
        values = values.masked_scatter(is_clean, self.clean.log_prob(x[is_clean]))
        return values.masked_scatter(is_noisy, self.noisy(x[is_noisy], log_snr[is_noisy]))

    def expected_error(self, log_snr: Tensor) -> Tensor:
        """Expected squared error of the scaled score against the noise, that of the noisy density at every log-SNR.

        Args:
            log_snr: log-SNRs of any shape, which is the shape of the result.
        """
        return self.noisy.expected_error(log_snr)

    def covariances(self, log_snr: Tensor | None = None) -> Tensor:
        """Covariances ``(K, d, d)`` of the density of one log-SNR ``()``; None means without noise."""
        return self.clean.covariances() if bool(self.is_clean(log_snr)) else self.noisy.covariances(log_snr)

    def conditional(self, log_snr: Tensor | None = None) -> Conditional:
        """Marginals and conditionals of the density of one log-SNR ``()``; None means without noise.

        Raises:
            NotImplementedError: a clean density without conditionals, on level 0; ``noisy.conditional()`` approximates
                them.
        """
        return self.clean.conditional() if bool(self.is_clean(log_snr)) else self.noisy.conditional(log_snr)
