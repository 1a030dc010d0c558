"""Checks that settings share."""

from types import SimpleNamespace

import pytest

from drl_density.density.settings.checks import check_least, check_share, chosen


def test_the_least_value_itself_passes():
    settings = SimpleNamespace(size=3, rate=float("nan"), later=None)
    check_least(settings, size=3, later=1)
    with pytest.raises(ValueError, match="^size must be at least 4, got 3$"):
        check_least(settings, size=4)
    with pytest.raises(ValueError, match="rate must be at least 0, got nan"):
        check_least(settings, rate=0)


def test_shares_lie_in_their_interval():
    settings = SimpleNamespace(none=0.0, all=1.0, beyond=1.01, below=-0.01, unknown=float("nan"), later=None)
    check_share(settings, "none", "all", "later")
    check_share(settings, "none", "later", includes_one=False)
    for name in ("beyond", "below", "unknown"):
        with pytest.raises(ValueError, match=rf"^{name} must lie in \[0, 1\], got"):
            check_share(settings, "none", name)
    with pytest.raises(ValueError, match=r"^all must lie in \[0, 1\), got 1.0$"):
        check_share(settings, "none", "all", includes_one=False)


def test_only_none_is_not_chosen():
    assert chosen(0, "network.dropout") == 0
    with pytest.raises(ValueError, match="network.dropout is not chosen yet: call FitSettings.resolve first"):
        chosen(None, "network.dropout")
