"""The two calls: the evidence of one Pyro model, and of several beside each other."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.distributions import joint_density
from drl_density.distributions.pyro_models import JointDensity
from drl_density.model_evidence.comparison import EvidenceComparison, rank
from drl_density.model_evidence.record import ModelEvidence
from drl_density.partition_function import SandwichSettings, sandwich

OWN_NAMES = ("seed", "tolerance", "settings")
"""Keyword arguments that are not handed on to the model."""
Model = Callable[..., Any]
"""A Pyro model."""


@outside_inference_mode
def evidence(
    model: Model,
    *args: Any,
    seed: int | None = None,
    tolerance: float | None = None,
    settings: SandwichSettings | None = None,
    **kwargs: Any,
) -> ModelEvidence:
    """The log evidence of a Pyro model, log p(y), with an interval, a verdict and draws of the posterior.

    Latent sites are treated as :func:`drl_density.joint_density` describes. Warns as :func:`drl_density.sandwich` does
    when the estimate must not be built on.

    Args:
        model: Pyro model; every row of the data must be in it.
        args: positional arguments of the model.
        tolerance: half width of the 95 % interval to reach, nats.
        kwargs: keyword arguments of the model; bind one that is named as an argument here by ``functools.partial``.

    Raises:
        ValueError: a model that is no density over the reals, or one with an argument of its own that is named as one here.

    >>> import pyro, pyro.distributions as dist
    >>> def coin(heads, tosses):
    ...     share = pyro.sample("share", dist.Beta(1.0, 1.0))
    ...     pyro.sample("heads", dist.Binomial(tosses, share), obs=heads)
    >>> small = SandwichSettings(most_batches=1, num_particles=16, num_replicates=4, num_transitions=1, num_mixing_steps=4)
    >>> found = evidence(coin, torch.tensor(7.0), 10, seed=0, settings=small)
    >>> abs(found.log_z + math.log(11)) < 0.5  # all 11 counts are equally probable
    True
    """
    _refuse_ambiguous(model, {"seed": seed, "tolerance": tolerance, "settings": settings})
    target = joint_density(model, *args, **kwargs)
    assert isinstance(target.log_density, JointDensity)
    found = sandwich(target, seed=seed, tolerance=tolerance, settings=settings)
    return ModelEvidence(found, target.log_density, seed)


@outside_inference_mode
def compare_evidence(
    models: Mapping[str, Model | ModelEvidence] | Sequence[Model | ModelEvidence],
    *args: Any,
    seed: int | None = None,
    tolerance: float | None = None,
    settings: SandwichSettings | None = None,
    prior: Mapping[str, float] | Sequence[float] | None = None,
    **kwargs: Any,
) -> EvidenceComparison:
    """Log evidence of several models of the same data: differences to the best, their intervals, model probabilities.

    Args:
        models: Pyro models, or results of :func:`drl_density.evidence`, by name; those of a list take the names of their
            functions.
        args: positional arguments of every model.
        tolerance: half width of the 95 % interval of each log evidence to reach, nats.
        prior: prior probability of each model, in any unit; equal when not given.
        kwargs: keyword arguments of every model.

    Returns:
        The models, best first, with a decision for each, which prints as a table.

    Raises:
        ValueError: fewer than two models, models of different data, or a prior that is not positive.

    >>> import pyro, pyro.distributions as dist
    >>> def coin(heads):
    ...     share = pyro.sample("share", dist.Beta(1.0, 1.0))
    ...     pyro.sample("heads", dist.Binomial(10, share), obs=heads)
    >>> small = SandwichSettings(most_batches=1, num_particles=16, num_replicates=4, num_transitions=1, num_mixing_steps=4)
    >>> found = evidence(coin, torch.tensor(7.0), seed=0, settings=small)
    >>> table = compare_evidence({"once": found, "again": found}, prior={"once": 3, "again": 1})
    >>> round(table["once"].probability, 4), table.bayes_factor("once", "again").log_bayes_factor
    (0.75, 0.0)
    """
    named = dict(models) if isinstance(models, Mapping) else _by_name(models)
    if len(named) < 2:
        raise ValueError(f"expected at least two models to compare, got {len(named)}")
    weights = _prior_of(named, prior)
    joints = {name: _joint_of(model, args, kwargs) for name, model in named.items()}
    _check_data(joints)
    generator = torch.Generator() if seed is None else torch.Generator().manual_seed(seed)
    if seed is None:
        generator.seed()
    found = {}
    for name, model in named.items():
        own = int(torch.randint(2**62, (), generator=generator))  # estimates of the same seed would not be independent
        if isinstance(model, ModelEvidence):
            found[name] = model
            continue
        found[name] = evidence(model, *args, seed=own, tolerance=tolerance, settings=settings, **kwargs)
    return rank(found, weights)


def _refuse_ambiguous(model: Model, given: Mapping[str, Any]) -> None:
    """Refuse an argument that could be meant for the model or for the estimate.

    Raises:
        ValueError: such an argument.
    """
    try:
        names = set(inspect.signature(model).parameters)
    except (TypeError, ValueError):  # callables without a signature that Python can read
        return
    bound = set(model.keywords) if isinstance(model, functools.partial) else set()
    for name, value in given.items():
        if value is not None and name in names - bound:
            raise ValueError(
                f"{name}={value!r} is taken by the estimate, and the model has an argument {name!r} too: bind the model's "
                f"by functools.partial(model, {name}=...)"
            )


def _by_name(models: Sequence[Model | ModelEvidence]) -> dict[str, Model | ModelEvidence]:
    """Models by the names of their functions, numbered where those are missing or equal."""
    names = [_name_of(model) for model in models]
    return {
        name if name and names.count(name) == 1 else f"{name or 'model'} {index + 1}": model
        for index, (name, model) in enumerate(zip(names, models, strict=True))
    }


def _name_of(model: Any) -> str:
    if isinstance(model, ModelEvidence):
        return _name_of(model.joint.model)
    if isinstance(model, functools.partial):
        return _name_of(model.func)
    name = getattr(model, "__name__", type(model).__name__)
    return "" if name == "<lambda>" else name


def _prior_of(named: Mapping[str, Any], prior: Mapping[str, float] | Sequence[float] | None) -> dict[str, float]:
    """Prior probability of each model, adding up to one.

    Raises:
        ValueError: other names or another number of models, or a probability that is not positive.
    """
    if prior is None:
        return dict.fromkeys(named, 1 / len(named))
    values = dict(prior) if isinstance(prior, Mapping) else dict(zip(named, prior, strict=False))
    if set(values) != set(named) or len(prior) != len(named):
        raise ValueError(f"expected a prior for each of {', '.join(named)}, got {prior}")
    if not all(math.isfinite(value) and value > 0 for value in values.values()):
        raise ValueError(f"expected positive prior probabilities, got {prior}: leave out models of probability 0")
    return {name: value / sum(values.values()) for name, value in values.items()}


def _joint_of(model: Model | ModelEvidence, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JointDensity:
    if isinstance(model, ModelEvidence):
        return model.joint
    found = joint_density(model, *args, **kwargs).log_density
    assert isinstance(found, JointDensity)
    return found


def _check_data(joints: Mapping[str, JointDensity]) -> None:
    """Refuse models that observe different values; a factor may hold a likelihood, so models with factors pass.

    Raises:
        ValueError: such models.
    """
    seen = {name: _observed(joint) for name, joint in joints.items() if joint.observations and not joint.factors}
    for name, values in seen.items():
        first = next(iter(seen))
        if not torch.equal(values, seen[first]):
            raise ValueError(
                f"models {first!r} and {name!r} observe different values ({len(seen[first])} and {len(values)} numbers): "
                "evidence compares models of the same data, in the same units and with the same rows"
            )


def _observed(joint: JointDensity) -> Tensor:
    """All observed numbers of a model in order of size, whichever sites hold them."""
    return torch.cat([one.seen.detach().double().flatten() for one in joint.observations.values()]).sort().values
