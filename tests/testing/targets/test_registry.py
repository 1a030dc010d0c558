"""The library by name and by family."""

import math

import pytest
import torch

from drl_density.testing import KnownTarget, known_target, known_target_names, known_targets, seeded_generator
from drl_density.testing.targets.registry import FAMILIES


def test_names_are_many_and_each_of_one_family():
    names = known_target_names()
    assert len(names) == len(set(names)) >= 100
    assert sum(len(known_target_names(family)) for family in FAMILIES) == len(names)
    assert "funnel_10d" in known_target_names("curved")


def test_families_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="family must be one of gaussians, .* got 'shells'"):
        known_target_names("shells")


@pytest.mark.parametrize(("wrong", "hint"), [("funnel10d", "similar names are funnel_10d"), ("?", "lists them")])
def test_names_that_do_not_exist_are_refused_with_a_hint(wrong, hint):
    with pytest.raises(ValueError, match=hint):
        known_target(wrong)


@pytest.fixture(scope="module")
def library():
    return known_targets()


def test_every_target_is_a_whole_record(library):
    assert [target.name for target in library] == list(known_target_names())
    for target in library:
        assert isinstance(target, KnownTarget)
        assert target.family in FAMILIES
        assert target.notes, target.name
        assert target.log_z == math.inf or math.isfinite(target.log_z), target.name


def test_names_end_in_the_number_of_free_coordinates(library):
    for target in library:
        if target.name.endswith("d"):
            assert target.name.rpartition("_")[2] == f"{target.dim}d"


def test_improper_targets_are_named_so(library):
    assert {target.name for target in library if not target.is_proper} == {
        name for name in known_target_names() if name.startswith("improper")
    }


def test_densities_are_finite_in_float64_at_exact_draws_and_have_gradients(library):
    for target in library:
        if target.draws is None:
            continue
        x = target.sample(6, generator=seeded_generator(3))
        values = target.target.unnormalized_log_prob(x)
        assert values.dtype == torch.float64, target.name
        assert bool(torch.isfinite(values).all()), target.name
        pairs = target.target.unnormalized_log_prob(x.reshape(2, 3, *x.shape[1:]))
        assert torch.allclose(pairs.flatten(), values), target.name
        x.requires_grad_()
        if (value := target.target.log_density(x).sum()).requires_grad:
            (gradient,) = torch.autograd.grad(value, x)
            assert bool(torch.isfinite(gradient).all()), target.name
