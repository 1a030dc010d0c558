"""Settings of training: learning rates, and what is refused."""

import pytest

from drl_density import TrainingSettings


@pytest.mark.parametrize("name", ["is_compiled", "is_graphed", "is_channels_last"])
def test_settings_that_need_weights_in_one_place_are_refused(name):
    with pytest.raises(
        ValueError, match=f"has_sharded_weights moves weights in memory, and {name} needs them to stay in place"
    ):
        TrainingSettings(has_sharded_weights=True, **{name: True})
