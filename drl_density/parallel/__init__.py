"""Several processes of one run: who does what, and tensors sharded over them."""

from drl_density.parallel.workers import Workers, joined_workers, num_restarts

__all__ = ["Workers", "joined_workers", "num_restarts"]
