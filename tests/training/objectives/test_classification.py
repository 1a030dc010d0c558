"""Noise-level classification: its minimum, and the share of a batch."""

import pytest

from drl_density import FitSettings, RecoveryLikelihood
from drl_density.testing import seeded_generator
from drl_density.training import DenoisingScoreMatching
from drl_density.training.objectives import classification
from tests.training.small_runs import draw, fresh


def test_a_wrong_share_is_refused_before_anything_is_loaded():
    with pytest.raises(ValueError, match="classification_share must lie in"):
        FitSettings(classification_share=2.0)


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
