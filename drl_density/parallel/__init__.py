"""Processes that work on one run together, and tensors that are sharded over them."""

from drl_density.parallel.workers import Workers, joined_workers, launch_name, num_restarts

__all__ = ["Workers", "joined_workers", "launch_name", "num_restarts"]
