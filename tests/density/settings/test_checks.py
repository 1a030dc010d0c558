"""The guard on values that are still to be chosen."""

import pytest

from drl_density.density.settings.checks import chosen


def test_only_none_is_not_chosen():
    assert chosen(0, "network.dropout") == 0
    with pytest.raises(ValueError, match="network.dropout is not chosen yet: call FitSettings.resolve first"):
        chosen(None, "network.dropout")
