"""Noise-level classification: its minimum, and the share of a batch."""

import pytest
import torch

from drl_density import AdjustedObjective, DenoisingObjective, RecoveryLikelihood
from drl_density.testing import GaussianMixtureSequence, seeded_generator
from drl_density.training import DenoisingScoreMatching
from drl_density.training.objectives import classification
from tests.training.small_runs import draw, fresh


@pytest.mark.parametrize("kind", [AdjustedObjective, DenoisingObjective])
def test_a_wrong_share_is_refused_before_anything_is_loaded(kind):
    with pytest.raises(ValueError, match="classification_share must lie in"):
        kind(classification_share=2.0)


@pytest.mark.parametrize("kind", [DenoisingScoreMatching, RecoveryLikelihood])
def test_a_share_of_the_batch_is_classified(kind, monkeypatch):
    seen, plain = [], classification.level_logits
    monkeypatch.setattr(classification, "level_logits", lambda m, x, grid: seen.append(len(x)) or plain(m, x, grid))
    state = fresh()
    for share in (1.0, 0.3):
        kind(classification_share=share)(
            state.model, draw(20, seeded_generator(0)), state.step_sizes, generator=seeded_generator(1)
        )
    kind(classification_weight=0.0)(
        state.model, draw(20, seeded_generator(0)), state.step_sizes, generator=seeded_generator(1)
    )
    assert seen == [20, 6]
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match="classification_share must lie in"):
            kind(classification_share=share)


def test_logits_are_log_densities_less_their_constants_and_the_base_last():
    system = GaussianMixtureSequence.example()
    rows = torch.randn(5, 2, generator=seeded_generator(0)).double()
    grid = torch.arange(8, dtype=torch.float64)
    found = classification.level_logits(system.model, rows, grid).detach()
    normal = torch.distributions.Normal(0.0, 1.0)
    assert found.shape == (5, 9)
    torch.testing.assert_close(found[:, 8], normal.log_prob(rows).sum(1))
    for level in (0, 3):
        constant = system.model.log_normalizer(level).detach().to(found)
        torch.testing.assert_close(found[:, level], system.model.log_density(rows, level).detach() - constant)


def test_the_loss_of_a_share_is_that_of_its_rows_alone():
    model, x = GaussianMixtureSequence.example().model, torch.randn(20, 2, generator=seeded_generator(0)).double()
    part, alone = (
        classification.classification_loss(model, rows, share=share, generator=seeded_generator(1))
        for rows, share in ((x, 0.3), (x[:6], 1.0))
    )
    assert torch.equal(part, alone)
