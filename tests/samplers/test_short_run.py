"""Short runs: starts, and the last denoising step."""

import torch

from drl_density.samplers import (
    ShortRunSettings,
    sample_short_run,
)
from drl_density.testing import seeded_generator
from drl_density.training import LangevinChains
from tests.training.objectives.closed_forms import exact, image_sequence, papers_alpha, staying


def test_short_runs_start_at_the_noisier_state_in_y(monkeypatch):
    system, runs = exact(), staying(monkeypatch)
    alpha = papers_alpha(system.schedule)
    x = torch.randn(5, 1, generator=seeded_generator(1), dtype=torch.float64)
    draws = sample_short_run(system.model, 5, noise=x).draws
    assert [int(levels[0]) for _, _, levels in runs] == [3, 2, 1, 0]
    for start, x_noisier, levels in runs:
        assert torch.equal(x_noisier, x)
        torch.testing.assert_close(alpha[levels][:, None] * start, x_noisier, rtol=1e-12, atol=0)
        x = start
    assert torch.equal(draws, x)


def test_the_last_denoising_step_uses_the_same_density_once():
    """Tweedie's formula with F; the second paper's release has twice the score there."""
    model, states = image_sequence(), []
    settings = ShortRunSettings(LangevinChains(num_steps=2), is_denoised=True)
    result = sample_short_run(
        model, 3, settings=settings, generator=seeded_generator(), on_step=lambda record: states.append(record.x)
    )
    last = states[-1]
    sigma, alpha = float(model.schedule.sigma[0]), float(model.schedule.alpha[0])
    model.eval()
    with torch.enable_grad():
        point = last.clone().requires_grad_(True)
        (score,) = torch.autograd.grad(model.log_density(point, 0).sum(), point)
    assert torch.allclose(result.draws, (last + sigma**2 * score) / alpha, atol=1e-5)
    assert not torch.allclose(result.draws, (last + 2 * sigma**2 * score) / alpha, atol=1e-4)
    assert len(states) == 6
