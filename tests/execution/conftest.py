"""Recorded passes on a machine without CUDA."""

import pytest

from drl_density.execution import PassGraphs
from drl_density.execution.graphs import RecordedPass


class OrdinaryPass(RecordedPass):
    """A recording that runs the function again, on any device, into the same memory every time, as a card's does."""

    count = 0

    def __init__(self, function, *inputs):
        self._set_inputs(*inputs)
        self.function, self.graph, self.outputs = function, self, None

    def replay(self):
        OrdinaryPass.count += 1
        found = self._run(self.function)
        self.outputs = found if self.outputs is None else self.outputs
        for place, value in zip(self.outputs, found, strict=True):
            place.copy_(value)


@pytest.fixture
def recorded(monkeypatch):
    """Graphs on this machine: ordinary passes in place of recordings. Its ``count`` is the number of replays."""
    monkeypatch.setattr("drl_density.execution.graphs.RecordedPass", OrdinaryPass)
    monkeypatch.setattr(PassGraphs, "can_record", staticmethod(lambda device: True))
    monkeypatch.setattr(OrdinaryPass, "count", 0)
    return OrdinaryPass
