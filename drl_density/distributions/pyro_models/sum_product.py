"""Sums of products of log densities over discrete sites: the operations that Pyro's variable elimination calls.

Pyro's own take the exponential of each factor alone, which loses sums whose factors peak far apart, and contain an
autograd function that torch.vmap refuses. Here factors are added first. opt_einsum looks the functions up by their names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from pyro.ops.contract import contract_to_tensor
from pyro.ops.einsum.util import Tensordot
from pyro.ops.rings import LogRing
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from drl_density.distributions.pyro_models.latent_sites import sample_sites


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """Einstein summation of factors that are given, and returned, as logarithms.

    >>> import torch
    >>> found = einsum("ab,b->a", torch.zeros(2, 3), torch.tensor([-2000.0, 0.0, 0.0]))
    >>> bool(torch.allclose(found, torch.full((2,), 2.0).log()))
    True
    """
    inputs, output = equation.split("->")
    names = inputs.split(",")
    summed = "".join(sorted(set(inputs) - {",", *output}))
    order = output + summed
    total = sum(_aligned(operand, own, order) for operand, own in zip(operands, names, strict=True))
    assert isinstance(total, Tensor)  # there is at least one operand
    if not summed:
        return total.clone()
    return total.logsumexp(tuple(range(len(output), len(order))))


def transpose(a: Tensor, axes: Sequence[int]) -> Tensor:
    """Dimensions of a tensor in another order.

    >>> import torch
    >>> transpose(torch.zeros(2, 3), (1, 0)).shape
    torch.Size([3, 2])
    """
    return a.permute(tuple(axes))


tensordot: Any = Tensordot(einsum)
"""Contraction of two tensors over pairs of their dimensions, by :func:`einsum`."""


class _SumProduct(LogRing):
    """Pyro's ring of log densities with the operations of this module."""

    _backend = __name__


def log_sum_product(trace: Trace) -> Tensor:
    """Log density of a trace with the values of its enumerated sites summed out, by Pyro's variable elimination.

    >>> import pyro, torch, pyro.distributions as dist
    >>> from pyro import poutine
    >>> def model():
    ...     z = pyro.sample("z", dist.Bernoulli(0.25), infer={"enumerate": "parallel"})
    ...     pyro.sample("y", dist.Bernoulli(0.2 + 0.4 * z), obs=torch.tensor(1.0))
    >>> trace = poutine.trace(poutine.enum(model, first_available_dim=-1)).get_trace()
    >>> round(float(log_sum_product(trace).exp()), 4)  # 0.75 * 0.2 + 0.25 * 0.6
    0.3
    """
    trace.compute_log_prob()
    trace.pack_tensors()
    plates, factors = set(trace.plate_to_symbol.values()), OrderedDict()
    for site in sample_sites(trace).values():
        frames = frozenset(trace.plate_to_symbol[frame.name] for frame in site["cond_indep_stack"] if frame.vectorized)
        factors.setdefault(frames, []).append(site["packed"]["log_prob"])
    summed = set(trace.symbol_to_dim) - plates
    return contract_to_tensor(factors, summed, ring=_SumProduct())


def _aligned(operand: Tensor, own: str, order: str) -> Tensor:
    """A factor with one dimension for each symbol of ``order``, of size 1 where it does not depend on it."""
    present = [symbol for symbol in order if symbol in own]
    places = [own.index(symbol) for symbol in present]
    shape = [operand.shape[own.index(symbol)] if symbol in own else 1 for symbol in order]
    return operand.permute(places).reshape(shape)
