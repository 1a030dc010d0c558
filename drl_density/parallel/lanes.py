"""Lanes: threads of this process that work side by side, each with one thread of torch's.

Small tensor operations do not become faster by more threads of torch's. Independent pieces of work do, since torch releases
Python's lock during every operation.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

IsStopped = Callable[[], bool]
"""Whether work should end early, because other work beside it has failed or was interrupted."""


def num_lanes() -> int:
    """Number of lanes that torch's threads and the cores of this process allow, at least 1.

    With ``OMP_NUM_THREADS=1`` or ``torch.set_num_threads(1)`` it is 1.

    >>> 1 <= num_lanes() <= torch.get_num_threads()
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores))


def side_by_side(works: Sequence[Callable[[IsStopped], None]]) -> None:
    """Run pieces of work at the same time, the first in this thread and each of the others in a thread of its own.

    Every one of them has a single thread of torch's, also if it is alone. So its results do not depend on how many there
    are. An error or an interruption stops all of them. It is raised once they have ended, so that no thread is left over.

    Args:
        works: functions that look up now and then whether they are stopped, and then return.

    Raises:
        BaseException: the error of the first piece of work that failed.

    >>> found = []
    >>> side_by_side([lambda is_stopped: found.append(1), lambda is_stopped: found.append(torch.get_num_threads())])
    >>> found
    [1, 1]
    """
    stop = threading.Event()

    def run(work: Callable[[IsStopped], None]) -> None:
        torch.set_num_threads(1)  # of the calling thread alone
        try:
            work(stop.is_set)
        except BaseException:
            stop.set()
            raise

    with _threads_kept(), ThreadPoolExecutor(max(1, len(works) - 1)) as pool:
        try:
            others = [pool.submit(run, work) for work in works[1:]]
            if works:
                run(works[0])
            for other in others:
                other.result()
        except BaseException:
            stop.set()
            raise


@contextlib.contextmanager
def _threads_kept() -> Iterator[None]:
    """Context after which this thread has as many of torch's threads as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
