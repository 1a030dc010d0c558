"""Short unadjusted chains: level by level the chains of training, in blocks, from noise or given states."""

import pytest
import torch

from drl_density.mcmc import MALA
from drl_density.samplers import ShortRunSettings, sample_short_run
from drl_density.testing import GaussianMixtureSequence, seeded_generator
from drl_density.training import LangevinChains

CHAINS = LangevinChains(num_steps=3)


@pytest.fixture
def model():
    return GaussianMixtureSequence.example().model


def test_draws_are_the_chains_of_every_level(model):
    noise = torch.randn(4, 2, generator=seeded_generator(0), dtype=torch.float64)
    found = sample_short_run(
        model, 4, settings=ShortRunSettings(CHAINS), noise=noise, generator=seeded_generator(1)
    ).draws
    x, generator = noise, seeded_generator(1)
    for level in reversed(range(model.num_levels)):
        levels = torch.full((4,), level)
        x, _ = CHAINS.run(model, x / CHAINS.step_alpha(model, levels[:1]).to(x), x, levels, generator=generator)
    assert torch.equal(found, x)


def test_blocks_report_their_levels(model):
    steps = []
    found = sample_short_run(
        model, 5, settings=ShortRunSettings(CHAINS, max_rows=3), generator=seeded_generator(0), on_step=steps.append
    )
    assert found.draws.shape == (5, 2)
    assert [step.level for step in steps] == [*range(7, -1, -1)] * 2
    assert [len(step.x) for step in steps] == [3] * 8 + [2] * 8


def test_a_denoised_end_is_tweedies_formula(model):
    plain, denoised = (
        sample_short_run(
            model, 3, settings=ShortRunSettings(CHAINS, is_denoised=is_denoised), generator=seeded_generator(2)
        ).draws
        for is_denoised in (False, True)
    )
    torch.testing.assert_close(denoised, model.denoise(plain, 0))


def test_the_mode_of_the_model_comes_back_after_an_error(model):
    model.train()

    def fail(step):
        assert not model.training
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        sample_short_run(model, 2, settings=ShortRunSettings(CHAINS), on_step=fail)
    assert model.training


def test_a_proposal_needs_an_initializer(model):
    with pytest.raises(ValueError, match="initiali[sz]er"):
        sample_short_run(model, 2, settings=ShortRunSettings(CHAINS, uses_initializer=True))


def test_adjusted_chains_report_their_mean_acceptance(model):
    seen, chains = [], LangevinChains(num_steps=2, factor=0.5, kernel=MALA())
    found = sample_short_run(
        model,
        5,
        settings=ShortRunSettings(chains),
        generator=seeded_generator(0),
        on_step=lambda step: seen.append(step.acceptance_rate),
    )
    rate = found.stats["acceptance_rate"]
    assert rate.shape == (5,)
    assert 0 < float(rate.mean()) < 1
    assert float(rate.mean()) == pytest.approx(sum(seen) / len(seen))
