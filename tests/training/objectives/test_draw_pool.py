"""Pools of draws: what they hold at a step, that their draws follow the base, and that training on them resumes."""

import math

import pytest
import torch

from drl_density import EnergySequence, NoiseSchedule
from drl_density.bases import AutoregressiveFlow, AutoregressiveFlowSettings, LayeredBase, NoisedGaussianMixture
from drl_density.networks import ColumnTilt, ColumnTiltSettings
from drl_density.testing import assert_z, seeded_generator
from drl_density.training import DrawPool, ReferenceContrast
from drl_density.training.objectives import draw_pool
from drl_density.training.objectives.draw_pool import FIRST_BLOCKS

SCHEDULE = NoiseSchedule.log_spaced(4, sigma_min=0.02)
CLEAN = float(SCHEDULE.log_snr_at(0))
BLOCK = 16


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks whose every draw a test can see."""
    monkeypatch.setattr(draw_pool, "BLOCK", BLOCK)


def flow():
    return AutoregressiveFlow(AutoregressiveFlowSettings(2, num_transforms=1, width=4), generator=seeded_generator(0))


class Counted(NoisedGaussianMixture):
    """A standard normal density that counts its draws and calls them expensive."""

    has_quick_draws = False

    def __init__(self):
        super().__init__(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
        self.num_drawn = 0

    def sample(self, num_samples, *, generator=None):
        self.num_drawn += num_samples
        return super().sample(num_samples, generator=generator)


class Clock:
    """A number of steps that tests set."""

    def __init__(self, step=0):
        self.step = step

    def __call__(self):
        return self.step


def distinct(pool, base, num_samples=10_000):
    """Distinct draws of a pool, in a fixed order."""
    return pool(base, num_samples, generator=seeded_generator(9)).unique(dim=0)


def test_the_pool_grows_with_what_is_taken_and_then_replaces_the_oldest():
    clock, base = Clock(), Counted()
    pool = DrawPool(clock, draws_per_step=BLOCK, size=10 * BLOCK, uses=4)
    first = distinct(pool, base)
    assert pool.num_held == base.num_drawn == FIRST_BLOCKS * BLOCK
    clock.step = 8  # two blocks are due, and fill the pool
    full = distinct(pool, base)
    assert pool.num_held == base.num_drawn == 10 * BLOCK
    assert len(torch.cat([first, full]).unique(dim=0)) == len(full)
    clock.step = 12
    turned = distinct(pool, base)
    assert pool.num_held == 10 * BLOCK
    assert base.num_drawn == 11 * BLOCK
    common = len(full) + len(turned) - len(torch.cat([full, turned]).unique(dim=0))
    assert common == 9 * BLOCK


def test_what_a_pool_holds_follows_from_the_step_alone():
    """A pool that ran through all steps, one that begins late, and one that was rolled back."""
    clock, base = Clock(), flow()
    pool, others = DrawPool(clock, draws_per_step=11, size=9 * BLOCK, seed=3), []
    for clock.step in (0, 5, 20, 40, 21):
        others.append(distinct(pool, base))
    for step, expected in ((40, others[3]), (21, others[4])):
        assert torch.equal(distinct(DrawPool(Clock(step), draws_per_step=11, size=9 * BLOCK, seed=3), base), expected)
    assert not torch.equal(others[3], others[4])
    other = distinct(DrawPool(Clock(21), draws_per_step=11, size=9 * BLOCK, seed=4), base)
    assert not torch.isin(other[:, 0], others[4][:, 0]).any()


def test_quick_draws_are_fresh():
    mixture, pool = NoisedGaussianMixture.standard(2), DrawPool(Clock(), draws_per_step=1, size=1)
    drawn = pool(mixture, 5, generator=seeded_generator(0))
    assert torch.equal(drawn, mixture.sample(5, generator=seeded_generator(0)))
    assert pool.num_held == 0


def test_a_contrast_on_a_layered_base_takes_the_clean_draws_from_the_pool():
    """Clean negatives are draws of the pool; noisy ones are noised draws of the noisy density."""
    base = LayeredBase(flow(), NoisedGaussianMixture.standard(2), CLEAN)
    pool = DrawPool(Clock(), draws_per_step=1, size=1)
    log_snr = SCHEDULE.log_snr_at(torch.tensor([0.0, 2.0]).repeat_interleave(2000))
    drawn = base.sample_at(log_snr, 4000, generator=seeded_generator(0), draw=pool)
    held = distinct(pool, base.clean)
    is_held = torch.isin(drawn[:, 0], held[:, 0])
    assert bool(is_held[:2000].all())
    assert not bool(is_held[2000:].any())
    noisy = drawn[2000:]
    assert_z(noisy, 0.0)
    assert_z(noisy.square(), 1.0)
    all_clean = base.sample_at(log_snr[:10], 10, generator=seeded_generator(0), draw=pool)
    assert bool(torch.isin(all_clean[:, 0], held[:, 0]).all())


def test_the_loss_on_a_pool_has_the_value_on_fresh_draws():
    """A fixed tilt, so that both losses estimate one number."""
    base = LayeredBase(flow(), NoisedGaussianMixture.standard(2), CLEAN)
    network = ColumnTilt(ColumnTiltSettings(2, width=8), generator=seeded_generator(1))
    with torch.no_grad():
        network.readout.weight.normal_(generator=seeded_generator(2))
        network.readout.bias.normal_(generator=seeded_generator(3))
    model = EnergySequence(SCHEDULE, network, (2,), base=base)
    rows = torch.randn(500, 2, generator=seeded_generator(4))

    def losses(objective):
        found = [
            objective(seed)(model, rows, torch.ones(4), generator=seeded_generator(seed)).loss for seed in range(30)
        ]
        return torch.stack(found).detach()

    # Every loss has a pool of its own: losses on one pool share its error.
    pooled = losses(lambda seed: ReferenceContrast(draw=DrawPool(Clock(), draws_per_step=350, size=1, seed=seed)))
    fresh = losses(lambda seed: ReferenceContrast())
    assert_z(fresh - pooled, 0.0)
    assert float((fresh - pooled).abs().max()) > 0


def test_a_pool_serves_one_base():
    pool = DrawPool(Clock(), draws_per_step=1, size=1)
    pool(flow(), 1)
    with pytest.raises(ValueError, match="make a pool for each"):
        pool(flow(), 1)


@pytest.mark.parametrize("name", ["draws_per_step", "size", "uses"])
def test_sizes_that_mean_nothing_are_refused(name):
    sizes = {"draws_per_step": 1, "size": 1, "uses": 1} | {name: 0}
    with pytest.raises(ValueError, match="of at least 1"):
        DrawPool(Clock(), **sizes)


def test_a_fraction_of_a_block_is_never_held():
    clock, base = Clock(), Counted()
    pool = DrawPool(clock, draws_per_step=1, size=9 * BLOCK + 1, uses=1)
    for clock.step in (BLOCK - 1, BLOCK, 3 * BLOCK):
        pool(base, 1)
        assert pool.num_held == min(FIRST_BLOCKS + clock.step // BLOCK, math.ceil((9 * BLOCK + 1) / BLOCK)) * BLOCK
