"""The installed generation of ArviZ: 0.23, 1.x, or the parts of 1.x (arviz-base, arviz-stats) alone."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any, NamedTuple


class InstalledArviz(NamedTuple):
    """The installed ArviZ.

    Attributes:
        statistics: module with ``rhat``, ``ess`` and ``mcse``.
        is_before_one: whether it belongs to the generation before 1.0, which has its own container of groups.
    """

    statistics: Any
    is_before_one: bool


def installed_arviz() -> InstalledArviz:
    """Import ArviZ, or arviz-stats where only the parts of 1.x are installed; both load slowly.

    >>> installed_arviz().statistics.rhat is not None
    True
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # ArviZ 0.23 announces its successor on import
        if importlib.util.find_spec("arviz") is None:
            import arviz_stats  # pyright: ignore[reportMissingImports] (installed only with the parts of ArviZ 1.x)

            return InstalledArviz(arviz_stats, is_before_one=False)
        import arviz

        return InstalledArviz(arviz, int(arviz.__version__.split(".")[0]) < 1)
