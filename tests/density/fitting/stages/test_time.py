"""Ends of stages under a time limit."""

import threading
import time as time_module

import torch

from drl_density.density.fitting.stages import Budget, Pace


def test_without_a_limit_no_stage_ends():
    assert Budget().ends(2) == (None, None)


def test_refinements_of_later_members_keep_their_time():
    budget = Budget(deadline=100.0, refining_seconds=10.0)
    assert budget.ends(0) == (90.0, 100.0)
    assert budget.ends(2) == (70.0, 80.0)
    assert Budget(deadline=100.0).ends(3) == (100.0, 100.0)


def test_a_pace_is_the_wall_clock_beside_the_processor(monkeypatch):
    """On a machine that gives a fit half of its time, processor seconds count double."""
    wall, processor = [100.0], [7.0]
    monkeypatch.setattr(time_module, "monotonic", lambda: wall[0])
    monkeypatch.setattr(time_module, "thread_time", lambda: processor[0])
    pace = Pace.begin()
    assert pace.ratio() == 1.0
    wall[0], processor[0] = 110.0, 12.0
    assert pace.ratio() == 2.0
    clock, away = pace.clock(torch.device("cpu")), pace.clock(torch.device("meta"))
    before, before_away = clock(), away()
    wall[0], processor[0] = 150.0, 15.0  # the work itself may be interrupted for long
    assert clock() - before == 6.0
    assert away() - before_away == 40.0
    # For 35 of these 50 seconds other threads worked too, and this one had 3 of its 8 seconds of the processor.
    assert pace.without(35.0, 3.0).ratio() == 3.0


def test_the_pace_leaves_the_work_of_other_threads_out():
    """Two threads that compute side by side take the process twice the time of the wall, and this thread none of it."""
    pace = Pace.begin()
    clock = pace.clock(torch.device("cpu"))
    before, process = clock(), time_module.process_time()
    helper = threading.Thread(target=lambda: [torch.randn(200_000).sort() for _ in range(4)])
    helper.start()
    helper.join()
    assert clock() - before < 0.5 * (time_module.process_time() - process)
