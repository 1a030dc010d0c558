"""Draws of a posterior as a tree."""

import pyro
import pyro.distributions as dist
import torch

from drl_density import joint_density
from drl_density.model_evidence import posterior
from drl_density.model_evidence.posterior import posterior_tree
from drl_density.testing import seeded_generator

Y = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
SEEN = torch.tensor([True, False, True])


def regression(y):
    scale = pyro.sample("scale", dist.Exponential(1.0))
    parts = pyro.sample("parts", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("rows", 3):
        pyro.sample("y", dist.Normal(parts, scale), obs=y, obs_mask=SEEN)


def mixture(y):
    mean = pyro.sample("mean", dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).to_event(1))
    with pyro.plate("rows", 3):
        kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.3, 0.7])))
        pyro.sample("y", dist.Normal(mean[kind], 1.0), obs=y)


def tree_of(model, shape=(2, 4)):
    joint = joint_density(model, Y).log_density
    draws = torch.randn(*shape, joint.num_features, generator=seeded_generator(), dtype=torch.float64)
    return joint, draws, posterior_tree(joint, draws, seed=0)


def test_sites_are_in_their_own_space_with_pointwise_log_likelihoods():
    joint, draws, tree = tree_of(regression)
    drawn = tree["posterior"]
    torch.testing.assert_close(torch.tensor(drawn["scale"].values), draws[..., 0].exp())
    assert drawn["parts"].dims == ("chain", "draw", "parts_dim_0")
    torch.testing.assert_close(torch.tensor(drawn["parts"].values).sum(-1), torch.ones(2, 4, dtype=torch.float64))
    assert drawn["y_unobserved"].shape == (2, 4, 1)  # the one value that is missing
    assert bool(drawn["y_unobserved"].notnull().all())
    torch.testing.assert_close(torch.tensor(tree["sample_stats"]["lp"].values), joint(draws.flatten(0, 1)).reshape(2, 4))
    assert tree["observed_data"]["y"].values.tolist() == Y[SEEN].tolist()
    scale, parts = (torch.tensor(drawn[name].values) for name in ("scale", "parts"))
    expected = dist.Normal(parts[..., SEEN], scale[..., None]).log_prob(Y[SEEN])
    torch.testing.assert_close(torch.tensor(tree["log_likelihood"]["y"].values), expected)


def test_discrete_sites_are_drawn_reproducibly_and_thinned(monkeypatch):
    joint, draws, tree = tree_of(mixture)
    assert tree["posterior"]["kind"].shape == (2, 4, 3)
    again = posterior_tree(joint, draws, seed=0)
    assert tree["posterior"].to_dataset().equals(again["posterior"].to_dataset())
    assert "log_likelihood" not in tree.children  # rows share the components' means and kinds are summed out
    monkeypatch.setattr(posterior, "MOST_DISCRETE_DRAWS", 4)
    thin = posterior_tree(joint, draws)
    assert thin["posterior"].sizes["draw"] == 2
    assert torch.equal(torch.tensor(thin["posterior"]["mean"].values), draws[:, ::2])


def test_many_observations_leave_out_draws(monkeypatch):
    monkeypatch.setattr(posterior, "MOST_VALUES", 4 * 2)  # two seen values of each draw

    def plain(y):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mean, 1.0).expand([2]).to_event(1), obs=y[SEEN])

    assert tree_of(plain)[2]["posterior"].sizes["draw"] == 2
