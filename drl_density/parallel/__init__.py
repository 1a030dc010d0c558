"""Processes that work on one run together, tensors that are sharded over them, and threads that work side by side."""

from drl_density.parallel.lanes import IsStopped, num_lanes, side_by_side
from drl_density.parallel.workers import Workers, joined_workers, launch_name, num_restarts

__all__ = [
    "IsStopped",
    "Workers",
    "joined_workers",
    "launch_name",
    "num_lanes",
    "num_restarts",
    "side_by_side",
]
