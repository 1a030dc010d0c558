"""Work side by side: threads of torch's, errors, interruptions and what is left of them."""

import threading
import time

import pytest
import torch

from drl_density.parallel import num_lanes, side_by_side


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_lanes_are_as_many_as_threads_and_cores(two_threads, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert num_lanes() == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {5}, raising=False)
    assert num_lanes() == 1
    torch.set_num_threads(1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert num_lanes() == 1


def test_work_runs_at_the_same_time_with_one_thread_of_torchs_each(two_threads):
    both, seen = threading.Barrier(2, timeout=20), []

    def work(is_stopped):
        both.wait()  # passes only if both are here
        seen.append((threading.get_ident(), torch.get_num_threads(), is_stopped()))

    side_by_side([work, work])
    assert {identity for identity, *_ in seen} > {threading.get_ident()}
    assert [rest for _, *rest in seen] == [[1, False]] * 2
    assert torch.get_num_threads() == 2
    side_by_side([])


@pytest.mark.parametrize("place", [0, 1])
def test_an_error_stops_the_others_and_is_raised(two_threads, place):
    ended = []

    def fails(is_stopped):
        raise ValueError("a row of zeros")

    def waits(is_stopped):
        end = time.monotonic() + 20
        while not is_stopped() and time.monotonic() < end:
            time.sleep(0.001)
        ended.append(is_stopped())

    works = [waits, waits]
    works[place] = fails
    count = threading.active_count()
    with pytest.raises(ValueError, match="a row of zeros"):
        side_by_side(works)
    assert ended == [True]
    assert (threading.active_count(), torch.get_num_threads()) == (count, 2)


def test_an_interruption_leaves_no_thread(two_threads):
    def waits(is_stopped):
        while not is_stopped():
            time.sleep(0.001)

    def interrupted(is_stopped):
        raise KeyboardInterrupt

    count = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        side_by_side([interrupted, waits, waits])
    assert threading.active_count() == count
