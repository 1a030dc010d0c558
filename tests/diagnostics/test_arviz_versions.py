"""Which ArviZ is found, in whichever generation is installed."""

import importlib.metadata
import importlib.util

from drl_density.diagnostics.arviz_versions import installed_arviz


def test_the_installed_generation_is_found_with_its_statistics():
    found = installed_arviz()
    if importlib.util.find_spec("arviz") is None:
        assert not found.is_before_one
    else:
        assert found.is_before_one == importlib.metadata.version("arviz").startswith("0.")
    assert all(callable(getattr(found.statistics, name)) for name in ("rhat", "ess", "mcse"))
