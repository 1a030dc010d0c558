"""The line that a running evaluation keeps up to date: "log Z = a ± b, ESS c"."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from drl_density.partition_function import Progress

REFRESH_SECONDS = 0.2
"""Least time between two refreshes, which a reader sees as continuous."""


class LiveLine:
    """A progress bar on standard error that takes :class:`~drl_density.partition_function.Progress` records.

    Attributes:
        ess: last effective sample size that a record held; ``None`` before the first.
    """

    def __init__(self, *, is_shown: bool = True) -> None:
        self.ess: float | None = None
        self._bar = tqdm(
            total=1,
            file=sys.stderr,
            disable=not is_shown,
            bar_format="{desc} {elapsed}{postfix}",
        )
        self._shown_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show where the run is.

        A stage in one part has no percentage, and one without an estimate of its own keeps the last one on the line.
        """
        self._bar.total, self._bar.n = progress.total, progress.done
        share = f" {100 * progress.done / progress.total:3.0f} %" if progress.total > 1 else ""
        self._bar.set_description_str(progress.stage + share, refresh=False)
        if progress.log_z is not None:
            self.ess = progress.ess
            self._bar.set_postfix_str(str(progress), refresh=False)
        if progress.done in (0, progress.total) or time.monotonic() - self._shown_at > REFRESH_SECONDS:
            self._bar.refresh()
            self._shown_at = time.monotonic()

    def close(self) -> None:
        """End the bar, and leave the last line on the screen."""
        self._bar.n = self._bar.total
        self._bar.set_description_str("done")
        self._bar.close()
