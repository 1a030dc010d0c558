"""Which sites of a model are coordinates, summed out, or left out."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from drl_density.distributions.pyro_models.layout import examine_model

Y = torch.tensor([1.0, 0.0, 2.0])
SEEN = torch.tensor([True, False, True])


def mean_of(scale=1.0):
    return pyro.sample("mean", dist.Normal(0.0, scale))


def test_values_that_are_not_observed_are_left_out_unless_something_depends_on_them():
    def model(is_used):
        mean = mean_of()
        with pyro.plate("rows", 3):
            y = pyro.sample("y", dist.Normal(mean, 1.0), obs=Y, obs_mask=SEEN)
            if is_used:
                pyro.sample("z", dist.Normal(y, 1.0), obs=Y)

    alone, used = (examine_model(model, (is_used,), {}) for is_used in (False, True))
    assert (list(alone.sites), list(alone.integrated)) == (["mean"], ["y_unobserved"])
    assert torch.equal(alone.unobserved["y_unobserved"], ~SEEN)
    assert (list(used.sites), list(used.integrated)) == (["mean", "y_unobserved"], [])
    assert used.sites["y_unobserved"].shape == (1,)
    assert not used.sites["y_unobserved"].is_improper


def test_discrete_sites_without_children_integrate_to_one_and_others_are_summed_out():
    def model():
        mean = mean_of()
        kind = pyro.sample("kind", dist.Bernoulli(0.3))
        pyro.sample("y", dist.Normal(mean + kind, 1.0), obs=Y[0])
        count = pyro.sample("count", dist.Poisson(mean.exp()))  # endless, but nothing depends on it ...
        pyro.sample("next", dist.Poisson(count + 1))  # ... except another without children

    layout = examine_model(model, (), {})
    assert list(layout.sites) == ["mean"]
    assert layout.enumerated == ("kind",)
    assert set(layout.integrated) == {"count", "next"}


def test_dependence_that_random_values_hardly_show_is_found():
    """A value of probability 1e-9 is among those of the finite support."""

    def model():
        mean = mean_of()
        rare = pyro.sample("rare", dist.Bernoulli(1e-9))
        pyro.sample("y", dist.Normal(mean + rare, 1.0), obs=Y[0])

    assert examine_model(model, (), {}).enumerated == ("rare",)


def test_masked_entries_are_no_coordinates_and_flat_where_they_are_used():
    def padded():
        with pyro.plate("rows", 3), poutine.mask(mask=SEEN):
            pyro.sample("y", dist.Normal(pyro.sample("mean", dist.Normal(0.0, 1.0)), 1.0), obs=Y)

    def inside():
        mean = pyro.sample("mean", dist.Normal(torch.zeros(3), 1.0).mask(SEEN).to_event(1))
        pyro.sample("y", dist.Normal(mean[0], 1.0), obs=Y[0])

    def flat():
        with poutine.mask(mask=False):
            mean = mean_of()
        pyro.sample("y", dist.Normal(mean, 1.0), obs=Y[0])

    def absent():
        mean = mean_of()
        with poutine.mask(mask=False):
            pyro.sample("nothing", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mean, 1.0), obs=Y[0])

    for model in (padded, inside):
        site = examine_model(model, (), {}).sites["mean"]
        assert torch.equal(site.present, SEEN)
        assert not site.is_improper
    site = examine_model(flat, (), {}).sites["mean"]
    assert site.present is None
    assert site.is_improper
    assert list(examine_model(absent, (), {}).sites) == ["mean"]


def test_plates_and_batches_are_counted():
    def model():
        with pyro.plate("a", 3, dim=-2), pyro.plate("b", 4, dim=-1):
            pyro.sample("x", dist.Normal(torch.zeros(5, 1, 1), 1.0))

    def without_plates():
        pyro.sample("y", dist.Normal(mean_of(), 1.0), obs=torch.ones(2, 3))

    assert examine_model(without_plates, (), {}).num_batch_dims == 2
    layout = examine_model(model, (), {})
    assert layout.num_batch_dims == 3
    assert layout.sites["x"].real_shape == (5, 3, 4)


def test_examination_leaves_random_numbers_alone():
    before = torch.get_rng_state()
    examine_model(lambda: (mean_of(), pyro.sample("count", dist.Poisson(2.0))), (), {})
    assert torch.equal(before, torch.get_rng_state())


def subsampled():
    mean = mean_of()
    with pyro.plate("rows", 3, subsample_size=2) as index:
        pyro.sample("y", dist.Normal(mean, 1.0), obs=Y[index])


def chosen_rows():
    mean = mean_of()
    with pyro.plate("rows", 3, subsample=torch.tensor([0, 2])) as index:
        pyro.sample("y", dist.Normal(mean, 1.0), obs=Y[index])


def one_row_after_another():
    mean = mean_of()
    for index in pyro.plate("rows", 3, subsample_size=2):
        pyro.sample(f"y_{index}", dist.Normal(mean, 1.0), obs=Y[index])


def endless():
    count = pyro.sample("count", dist.Poisson(3.0))
    pyro.sample("y", dist.Normal(count + mean_of(), 1.0), obs=Y[0])


def only_discrete():
    pyro.sample("y", dist.Normal(pyro.sample("kind", dist.Bernoulli(0.5)), 1.0), obs=Y[0])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (subsampled, r"^plate 'rows' takes 2 of its 3 rows .*: give the plate all rows, pyro.plate\('rows', 3\); .*d$"),
        (chosen_rows, "^plate 'rows' takes 2 of its 3 rows"),
        (one_row_after_another, "^plate 'rows' takes 2 of its 3 rows"),
        (lambda: pyro.sample("where", dist.ProjectedNormal(torch.ones(3))), "^latent site 'where' .*: no bijection from"),
        (endless, "^latent site 'count' is discrete, and its Poisson has no finite list .*GammaPoisson"),
        (only_discrete, "only discrete ones: kind; .*TraceEnum_ELBO"),
        (lambda: pyro.sample("y", dist.Normal(0.0, 1.0), obs=Y[0]), "has none"),
    ],
)
def test_what_is_no_density_over_the_reals_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        examine_model(model, (), {})


def test_whole_plates_by_size_are_no_subsample():
    def model():
        mean = mean_of()
        with pyro.plate("rows", 3, subsample_size=3) as index:
            pyro.sample("y", dist.Normal(mean, 1.0), obs=Y[index])

    assert list(examine_model(model, (), {}).sites) == ["mean"]
