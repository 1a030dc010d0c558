"""The contract of unnormalised distributions, for every member, under Pyro."""

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from drl_density import ChainSampler, EnergyDistribution, NoiseSchedule
from drl_density.distributions.unnormalized import parameters_of
from drl_density.errors import DRLDensityWarning
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings
from drl_density.testing import GaussianMixtureSequence, seeded_generator
from drl_density.weights import assess_weights

SYSTEM = GaussianMixtureSequence.example(dim=2, schedule=NoiseSchedule.log_spaced(5))


def energy():
    return SYSTEM.model.level(0, sampler=ChainSampler(num_warmup=30, num_steps=10))


def recovery():
    return SYSTEM.model.recovery(1).condition(torch.tensor([0.3, -0.2], dtype=torch.float64))


MEMBERS = {"energy": energy, "recovery": recovery}


@pytest.fixture(params=MEMBERS, ids=list(MEMBERS))
def make(request):
    return MEMBERS[request.param]


@pytest.mark.parametrize("sample_shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("batch_shape", [(), (4,)], ids=str)
def test_shapes(make, sample_shape, batch_shape):
    target = make().expand(torch.Size(batch_shape))
    x = target.sample(sample_shape)
    assert x.shape == (*sample_shape, *batch_shape, 2)
    assert target.log_prob(x).shape == (*sample_shape, *batch_shape)
    one = torch.zeros(2, dtype=torch.float64)
    assert target.log_prob(one).shape == batch_shape


def test_expand_makes_a_new_object_that_shares_the_energy(make):
    target = make()
    wider = target.expand(torch.Size([3]))
    assert wider is not target
    assert target.batch_shape == ()
    assert wider.log_density is target.log_density


def test_plate_mask_and_to_event(make):
    x = torch.zeros(4, 2, dtype=torch.float64)

    def model():
        with pyro.plate("rows", 4):
            return pyro.sample("x", make(), obs=x)

    trace = pyro.poutine.trace(model).get_trace()
    total = trace.log_prob_sum()
    torch.testing.assert_close(total, 4 * make().log_prob(x[0]))
    assert make().expand(torch.Size([4])).mask(torch.tensor([True, False, True, False])).log_prob(x)[1] == 0
    assert make().expand(torch.Size([4])).to_event(1).log_prob(x).shape == ()


def test_nuts_and_svi(make):
    def model():
        return pyro.sample("x", make())

    pyro.set_rng_seed(0)
    mcmc = MCMC(NUTS(model), num_samples=3, warmup_steps=3, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["x"].shape == (3, 2)
    pyro.clear_param_store()
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    assert torch.isfinite(torch.tensor(svi.step()))


def test_pickles(make):
    target = make()
    x = torch.ones(5, 2, dtype=torch.float64)
    torch.testing.assert_close(pickle.loads(pickle.dumps(target)).log_prob(x), target.log_prob(x))


def test_gradients_by_vmap(make):
    target = make()
    x = torch.randn(5, 2, generator=seeded_generator(1), dtype=torch.float64)
    vectorized = torch.func.vmap(torch.func.grad(target.log_prob))(x)
    point = x.clone().requires_grad_(True)
    target.log_prob(point).sum().backward()
    torch.testing.assert_close(vectorized, point.grad, rtol=1e-10, atol=1e-12)


def test_log_prob_compiles(make):
    target = make()
    x = torch.ones(5, 2, dtype=torch.float64)
    compiled = torch.compile(target.log_prob, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), target.log_prob(x))


def test_transformed(make):
    target = dist.TransformedDistribution(make(), [dist.transforms.AffineTransform(1.0, 2.0, event_dim=1)])
    assert target.log_prob(torch.zeros(3, 2, dtype=torch.float64)).shape == (3,)


def test_not_a_number_raises_under_validation(make):
    with pytest.raises(ValueError, match="support"):
        make().log_prob(torch.full((2,), float("nan"), dtype=torch.float64))


@pytest.mark.parametrize("name", ["mean", "variance"])
def test_no_closed_form(make, name):
    with pytest.raises(NotImplementedError, match="estimate it from sample"):
        getattr(make(), name)


def test_normalization_is_never_in_doubt(make):
    target = make()
    x = torch.zeros(2, dtype=torch.float64)
    assert not target.is_normalized
    assert "normalization='none'" in repr(target)
    estimated = target.normalize(1.5)
    assert estimated.is_normalized
    assert "normalization='estimated'" in repr(estimated)
    assert not target.is_normalized
    torch.testing.assert_close(estimated.log_prob(x), target.log_prob(x) - 1.5)
    torch.testing.assert_close(estimated.unnormalized_log_prob(x), target.log_prob(x))
    learned = target.normalize(1.0, normalization="learned")
    assert not learned.is_normalized
    with pytest.raises(ValueError, match="finite"):
        target.normalize(float("nan"))
    with pytest.raises(ValueError, match="learned"):
        target.normalize(0.0, normalization="none")


def test_learning_the_energy_in_a_trace_is_a_warning():
    model = EnergySequence(NoiseSchedule.log_spaced(3), MLP(MLPSettings(2)), (2,))

    def program():
        pyro.sample("x", model.level(0), obs=torch.zeros(2))

    with pytest.warns(DRLDensityWarning, match="parameters require grad"):
        pyro.poutine.trace(program).get_trace().log_prob_sum()


def test_what_torch_and_pyro_inherit(make):
    """Calling draws, expand_by repeats, score_parts and shape follow the batch; nothing claims to be reparameterised."""
    target = make()
    assert target().shape == (2,)
    assert target.expand_by((3,)).batch_shape == (3,)
    assert target.shape((5,)) == (5, 2)
    assert not target.has_rsample
    assert not target.has_enumerate_support
    x = target.sample((4,))
    assert not x.requires_grad
    parts = target.score_parts(x)
    torch.testing.assert_close(parts.log_prob, target.log_prob(x))
    assert target.support.event_dim == target.event_dim == 1
    for call in (target.entropy, lambda: target.cdf(x)):
        with pytest.raises(NotImplementedError, match="estimate it from sample"):
            call()


def test_values_and_batches_broadcast_both_ways(make):
    target = make().expand(torch.Size([3]))
    x = torch.randn(5, 1, 2, generator=seeded_generator(2), dtype=torch.float64)
    torch.testing.assert_close(target.log_prob(x), make().log_prob(x).expand(5, 3))
    assert target.log_prob(x[0, 0]).shape == (3,)


def test_settings_of_a_site_survive_on_its_trace(make):
    def model():
        return pyro.sample("x", make(), infer={"drl": {"kernel": "hmc"}})

    assert pyro.poutine.trace(model).get_trace().nodes["x"]["infer"]["drl"] == {"kernel": "hmc"}


def test_a_number_of_draws_is_a_shape_of_one(make):
    target = make().with_sampler(ChainSampler(num_warmup=5, num_steps=2))
    torch.manual_seed(1)
    by_number = target.sample(3)
    torch.manual_seed(1)
    assert torch.equal(by_number, target.sample((3,)))
    assert by_number.shape == (3, 2)
    with pytest.raises(ValueError, match="negative"):
        target.sample(-1)


def test_records_of_log_z_normalize_and_are_kept(make):
    record = assess_weights(torch.full((4, 8), 2.5), bias="lower")
    target = make().normalize(record)
    assert target.estimate is record
    assert target.log_normalizer == record.log_z == 2.5
    assert target.expand(torch.Size([3])).estimate is record
    assert make().normalize(torch.tensor(2.5)).estimate is None
    with pytest.raises(ValueError, match="cannot normalize"):
        make().normalize(assess_weights(torch.full((4, 8), -float("inf")), bias="lower"))


def test_a_log_density_of_another_shape_is_refused():
    target = EnergyDistribution.from_log_density(lambda x: x.square(), (2,))
    with pytest.raises(ValueError, match=r"must map points \(3, 2\) .* it gave shape \(3, 2\): one number for each coord"):
        target.log_prob(torch.zeros(3, 2))


class Energy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return -self.scale * x.square().sum(-1)

    def tilted(self, x):
        return self(x) + x.sum(-1)


def test_parameters_are_found_behind_modules_and_their_methods():
    energy = Energy()
    assert list(parameters_of(energy)) == list(parameters_of(energy.tilted)) == [energy.scale]
    assert list(parameters_of(lambda x: energy(x))) == []
    assert list(EnergyDistribution(energy.tilted, (2,)).energy_parameters()) == [energy.scale]
