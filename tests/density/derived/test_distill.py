"""Generators distilled from a density: trained, saved, read, corrected."""

import copy

import pytest
import torch

from drl_density.density import Density, DistillSettings, load_generator
from drl_density.distillation.gaps import DenoisedGap
from drl_density.errors import DataError, RunFolderError
from drl_density.networks import NoTilt
from drl_density.samplers import DDIMSettings, MultistepDenoiser, RefinementSettings, sample_ddim


@pytest.mark.parametrize("method", ["mmd", "em"])
def test_a_generator_is_trained_saved_and_read(tiny_density, tiny_data, tmp_path, method):
    path = tiny_density.save(tmp_path / "run")
    own = {"mmd": {"num_calls": 3}, "em": {"num_corrections": 2, "width": 16, "num_warm_updates": 2}}
    settings = DistillSettings(method=method, num_updates=6, batch_size=32, **own[method])
    made = tiny_density.distill(tiny_data.train if method == "mmd" else None, settings=settings, seed=1)
    assert "not a density" in repr(made)
    assert made.num_calls == (3 if method == "mmd" else 1)
    assert not hasattr(made, "log_prob")
    made.save(path)
    read = load_generator(path)
    draws = [each.sample(50, seed=0) for each in (made, read)]
    torch.testing.assert_close(*draws, rtol=1e-5, atol=1e-6)
    assert draws[0].shape == (50, 2)
    corrected = made.correct(20, settings=RefinementSettings(num_steps=4, num_warmup=2))
    assert corrected.draws.shape == (20, 2)
    assert corrected.stats["r_hat"].shape == (2,)
    plain = Density.load(path)
    x = tiny_data.test[:5]
    torch.testing.assert_close(plain.log_prob(x), tiny_density.log_prob(x))


def test_em_never_leaves_the_student_worse_than_it_began(tiny_density):
    """Updates that are far too large are undone; small ones that help are kept."""
    small = {"num_warm_updates": 3, "width": 16, "batch_size": 32}
    codes = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    points = []
    for sizes in ({"num_updates": 0}, {"num_updates": 5, "learning_rate": 1.0}):
        made = tiny_density.distill(settings=DistillSettings("em", **small, **sizes), seed=1)
        with torch.no_grad():
            points.append(made.network(codes))
        assert len(made.losses) == (sizes["num_updates"] or 3)
    torch.testing.assert_close(*points)


def test_em_after_the_flow_learns_the_gap_once_for_each_update(tiny_density, monkeypatch):
    learned, learn = [], DenoisedGap.learn
    monkeypatch.setattr(DenoisedGap, "learn", lambda *given: (learned.append(1), learn(*given)))
    settings = DistillSettings("em", num_updates=4, batch_size=8, num_warm_updates=1, width=8)
    tiny_density.distill(settings=settings, seed=0)
    assert len(learned) == 100 + 4


def test_no_updates_leave_the_walk_as_it_is(tiny_density, tiny_data):
    made = tiny_density.distill(tiny_data.train, settings=DistillSettings(num_updates=0), seed=0)
    assert made.losses == []
    for kept, given in zip(made.network.model.parameters(), tiny_density.model.parameters(), strict=True):
        assert torch.equal(kept, given)


@pytest.mark.parametrize("kernel", ["log", "energy", "rbf", "cubic"])
def test_every_kernel_of_mmd_trains(tiny_density, tiny_data, kernel):
    settings = DistillSettings(num_calls=2, num_updates=3, batch_size=16, kernel=kernel)
    made = tiny_density.distill(tiny_data.train, settings=settings, seed=1)
    assert len(made.losses) == 3
    assert all(torch.isfinite(torch.tensor(made.losses)))


def test_walks_follow_the_rule_of_their_settings_and_keep_it(tiny_density, tiny_data, tmp_path):
    path, noise = tiny_density.save(tmp_path / "run"), torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    for rule in ("ddim", "multistep"):
        walk = DDIMSettings(num_steps=3)
        denoiser = MultistepDenoiser(tiny_density.model, walk) if rule == "multistep" else None
        expected = sample_ddim(tiny_density.model, 20, settings=walk, noise=noise, denoiser=denoiser).draws
        settings = DistillSettings(num_calls=3, num_updates=0, rule=rule)
        made = tiny_density.distill(tiny_data.train, settings=settings, seed=0)
        made.save(path)
        for network in (made.network, load_generator(path).network):
            with torch.no_grad():
                torch.testing.assert_close(network(noise), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "other", "name", "value"),
    [
        ("em", "mmd", "num_calls", 7),
        ("em", "mmd", "rule", "multistep"),
        ("em", "mmd", "kernel", "rbf"),
        ("mmd", "em", "num_corrections", 2),
        ("mmd", "em", "width", 16),
        ("mmd", "em", "num_blocks", 2),
        ("mmd", "em", "num_warm_updates", 10),
    ],
)
def test_settings_of_the_other_method_are_refused(method, other, name, value):
    assert getattr(DistillSettings(other, **{name: value}), name) == value
    with pytest.raises(ValueError, match=f'{name} is a setting of method "{other}", got .* with method "{method}"'):
        DistillSettings(method, **{name: value})


def test_wrong_generators(tiny_density, tiny_data, tmp_path):
    with pytest.raises(DataError, match="learns from the density alone"):
        tiny_density.distill(tiny_data.train, settings=DistillSettings("em", num_updates=1, num_warm_updates=1))
    with pytest.raises(DataError, match="needs rows"):
        tiny_density.distill()
    with pytest.raises(DataError, match="rows of shape"):
        tiny_density.distill(torch.zeros(5, 3))
    bare = copy.copy(tiny_density)
    object.__setattr__(bare, "model", copy.deepcopy(tiny_density.model))
    bare.model.network = NoTilt()
    with pytest.raises(DataError, match="this one has none: use method em"):
        bare.distill(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="method must be one of .mmd., .em"):
        DistillSettings(method="gan")
    with pytest.raises(RunFolderError, match="make one with"):
        load_generator(tiny_density.save(tmp_path / "run"))
