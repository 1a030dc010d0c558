"""Samples of a stream, the next of which is read in the background."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

from drl_density.datasets.dataset import RowSample, RowStream


class Prefetched:
    """The current sample of a stream and, once asked for, the next one; no more than two are held.

    Args:
        stream: stream of samples.
        first: sample number 0, which was read with the data set.
    """

    def __init__(self, stream: RowStream, first: RowSample) -> None:
        self.stream = stream
        self._first = first
        self._number, self._rows = 0, first
        self._coming: tuple[int, Future[RowSample]] | None = None
        self._stopping = threading.Event()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rows")

    def sample(self, number: int) -> RowSample:
        """Sample ``number``, read now unless it is the current one or was prepared."""
        if number != self._number:
            self._number, self._rows = 0, self._first  # frees the current sample before the next is read
            self._rows = self._read(number)
            self._number = number
        return self._rows

    def prepare(self, number: int) -> None:
        """Start to read sample ``number`` in the background, unless that is under way."""
        if number != self._number and (self._coming is None or self._coming[0] != number):
            self._abandon()
            self._coming = number, self._submit(number)

    def close(self) -> None:
        """Stop reading in the background, and wait until it has stopped."""
        self._stopping.set()
        self._coming = None
        self._reader.shutdown(wait=True, cancel_futures=True)

    def _read(self, number: int) -> RowSample:
        if not number:
            return self._first
        if self._coming is None or self._coming[0] != number:
            self._abandon()
            self._coming = number, self._submit(number)
        (_, future), self._coming = self._coming, None
        return future.result()

    def _submit(self, number: int) -> Future[RowSample]:
        stopping = self._stopping
        return self._reader.submit(self.stream.sample, number, is_cancelled=stopping.is_set)

    def _abandon(self) -> None:
        """Stop a read whose rows are no longer needed, as after a rollback of training."""
        if self._coming is not None:
            self._stopping.set()
            self._stopping = threading.Event()
            self._coming = None
