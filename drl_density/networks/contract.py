"""The contract between an energy sequence and its network, and the declarations by which a network takes part in it.

A network is an ``nn.Module`` whose call maps ``x`` of shape ``(batch, *event)`` and ``log_snr`` of shape ``(batch,)``, or
``()`` when all rows share one level, to one value per row ``(batch,)``. A network with labels takes an integer per row as a
third argument, 0 for an unlabelled row. What else a network can do it declares by the attributes below; a network that
declares nothing is taken to have none of these properties.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class DeclaresGrowth(Protocol):
    """A network that declares how fast its output grows."""

    @property
    def has_bounded_growth(self) -> bool:
        """Whether the output grows at most linearly in |x|, so that exp(quadratic base + network) is integrable."""
        ...


@runtime_checkable
class DeclaresBound(Protocol):
    """A network that declares whether its output is bounded from above."""

    @property
    def is_bounded(self) -> bool:
        """Whether the output is bounded from above, so that exp(network) times any normalised density is integrable.

        Draws of that density, weighted by exp(network), then stand for the product.
        """
        ...


@runtime_checkable
class DeclaresIntegrability(Protocol):
    """A network that declares whether it is a proper log density without a base."""

    @property
    def is_integrable(self) -> bool:
        """Whether exp(network) has a finite integral over x at every noise level."""
        ...


@runtime_checkable
class DeclaresStart(Protocol):
    """An initialiser that declares what its change to the input is added to."""

    @property
    def starts_at_base(self) -> bool:
        """Whether it is added to draws of the cleaner state under the base of the sequence, and not to the noisier state."""
        ...


@runtime_checkable
class MapsColumns(Protocol):
    """A network whose work on columns that many vectors share is done once for all of them."""

    @property
    def maps_columns(self) -> bool:
        """Whether it can do so in its present state."""
        ...

    def with_columns(self, x: Tensor, values: Tensor, places: Tensor, log_snr: Tensor) -> Tensor:
        """Outputs ``(n, k)`` at the vectors ``x`` ``(n, d)`` whose entries at ``places`` are ``values`` ``(n, k, m)``."""
        ...


@runtime_checkable
class Checkpointable(Protocol):
    """A module that can recompute its activations in the backward pass instead of storing them.

    Attributes:
        is_checkpointed: whether it does so; False in a new module.
    """

    is_checkpointed: bool

    @property
    def checkpointed_blocks(self) -> list[nn.Module]:
        """The blocks whose activations are recomputed."""
        ...


class NoTilt(nn.Module):
    """The network of a sequence that is its base: 0 everywhere, so that log Z is 0 exactly.

    >>> import torch
    >>> NoTilt()(torch.ones(2, 3), torch.tensor(0.0))
    tensor([0., 0.])
    """

    has_bounded_growth = True
    is_bounded = True

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Zeros ``(batch,)``.

        Args:
            x: rows of shape ``(batch, *event)``.
            log_snr: ``()`` for all rows or ``(batch,)``; it has no effect.
        """
        return x.new_zeros(len(x))


def has_bounded_growth(network: nn.Module) -> bool:
    """Whether the network declares an output that grows at most linearly in |x|.

    >>> has_bounded_growth(nn.Identity())
    False
    """
    return isinstance(network, DeclaresGrowth) and network.has_bounded_growth


def is_bounded(network: nn.Module) -> bool:
    """Whether the network declares an output that is bounded from above.

    >>> is_bounded(nn.Identity())
    False
    """
    return isinstance(network, DeclaresBound) and network.is_bounded


def is_integrable(network: nn.Module) -> bool:
    """Whether the network declares that exp(network) has a finite integral.

    >>> is_integrable(nn.Identity())
    False
    """
    return isinstance(network, DeclaresIntegrability) and network.is_integrable


def starts_at_base(network: nn.Module) -> bool:
    """Whether the initialiser declares that it shifts draws of the base.

    >>> starts_at_base(nn.Identity())
    False
    """
    return isinstance(network, DeclaresStart) and network.starts_at_base


def checkpointable_modules(network: nn.Module) -> list[Checkpointable]:
    """Every module of ``network``, at any depth, that can recompute its activations.

    >>> checkpointable_modules(nn.Identity())
    []
    """
    return [module for module in network.modules() if isinstance(module, Checkpointable)]
