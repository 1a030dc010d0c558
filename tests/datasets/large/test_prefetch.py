"""Samples read in the background: the right ones, each read once, and no thread left behind."""

import threading

import pytest
import torch

from drl_density.datasets.large.prefetch import Prefetched


class Numbers:
    """A stream whose sample n is the number n, which records what was read."""

    def __init__(self):
        self.read, self.cancelled = [], threading.Event()

    def sample(self, number, *, is_cancelled=lambda: False):
        self.read.append(number)
        if number == 99:  # a table that takes for ever
            while not is_cancelled():
                pass
            self.cancelled.set()
            raise RuntimeError("cancelled")
        if number == 13:
            raise ValueError("unreadable")
        return torch.tensor([number])


@pytest.fixture
def stream():
    return Numbers()


@pytest.fixture
def samples(stream):
    held = Prefetched(stream, torch.tensor([0]))
    yield held
    held.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rows")]


def test_a_prepared_sample_is_read_once(stream, samples):
    assert samples.sample(0).item() == 0
    for _ in range(3):
        samples.prepare(1)
    assert samples.sample(1).item() == 1
    assert samples.sample(1).item() == 1
    assert stream.read == [1]


def test_an_unprepared_sample_and_a_step_back_are_read_at_once(stream, samples):
    assert samples.sample(2).item() == 2
    samples.prepare(3)
    assert samples.sample(1).item() == 1
    assert samples.sample(0).item() == 0
    assert 0 not in stream.read


def test_a_fault_in_the_background_is_raised_where_the_sample_is_used(samples):
    samples.prepare(13)
    assert samples.sample(0).item() == 0
    assert samples.sample(2).item() == 2
    with pytest.raises(ValueError, match="unreadable"):
        samples.sample(13)
    assert samples.sample(2).item() == 2


def test_closing_and_another_sample_stop_a_read(stream):
    held = Prefetched(stream, torch.tensor([0]))
    held.prepare(99)
    assert held.sample(1).item() == 1
    assert stream.cancelled.wait(5)
    stream.cancelled.clear()
    held.prepare(99)
    held.close()
    assert "rows" not in {thread.name.split("_")[0] for thread in threading.enumerate()}
