"""Settings of training: learning rates, and what is refused."""

import pytest

import drl_density as drl
from drl_density import TrainingSettings


@pytest.mark.parametrize("name", ["is_compiled", "is_graphed", "is_channels_last"])
def test_settings_that_need_weights_in_one_place_are_refused(name):
    with pytest.raises(
        ValueError, match=f"has_sharded_weights moves weights in memory, and {name} needs them to stay in place"
    ):
        TrainingSettings(has_sharded_weights=True, **{name: True})


def test_the_rate_rises_linearly_and_falls_along_half_a_cosine():
    settings = TrainingSettings(num_steps=1000, learning_rate=0.1, warmup_steps=10)
    assert settings.rate(0) == pytest.approx(0.1 * 0.1, rel=1e-6)
    assert settings.rate(500) == pytest.approx(0.05)
    assert settings.rate(1000) == pytest.approx(0.0, abs=1e-12)
    assert settings.rate(2000) == pytest.approx(0.0, abs=1e-12)


def test_a_constant_rate_stays_at_its_peak():
    settings = TrainingSettings(num_steps=1000, learning_rate=0.1, warmup_steps=10, decay="constant")
    assert settings.rate(4) == pytest.approx(0.05)
    assert settings.rate(9) == settings.rate(999) == 0.1


BAD = [
    ({"num_steps": 0}, "num_steps must be at least 1"),
    ({"patience": 0}, "patience must be at least 1"),
    ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ({"average_decay": 1.0}, r"average_decay must lie in \[0, 1\)"),
    ({"batch_size": 10, "num_shards": 3}, "num_shards must divide batch_size"),
    ({"decay": "linear"}, "decay must be one of 'cosine', 'constant'"),
    ({"precision": "fp16"}, "precision must be one of 'float32', 'bfloat16'"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[row[1] for row in BAD])
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**changes)


def test_the_rate_warms_up_and_falls_as_a_half_cosine():
    settings = drl.TrainingSettings(num_steps=1000, learning_rate=2.0)
    assert settings.rate(0) == pytest.approx(2.0 / 100, rel=1e-3)
    assert settings.rate(500) == pytest.approx(1.0, rel=1e-12)
    assert settings.rate(1000) == pytest.approx(0.0, abs=1e-12)
