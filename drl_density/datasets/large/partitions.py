"""Questions to a density over the partitions of a Dask DataFrame, lazily and on any scheduler.

The density is one node of the graph, so a cluster sends it to each worker once. A partition's random numbers follow from
the seed and the partition's number, so results do not depend on the scheduler or on which worker computed what.
"""

from __future__ import annotations

import secrets
from typing import Any

from drl_density.datasets.large.hashing import stream_key
from drl_density.errors import DataError


def partition_seed(seed: int, number: int) -> int:
    """Seed of one partition: a counter-based hash of the seed and the partition's number, below 2^63.

    >>> partition_seed(0, 1) == partition_seed(0, 1) != partition_seed(0, 2)
    True
    """
    return int(stream_key(seed, number)[0]) >> 1


def map_partitions(density: Any, question: str, frame: Any, *, options: dict[str, Any]) -> Any:
    """The answers of a method of ``density`` to every partition of a Dask DataFrame, as a lazy Dask DataFrame.

    Args:
        density: fit that is asked.
        question: name of the method, which takes a pandas DataFrame and returns one with its index.
        frame: Dask DataFrame; its divisions are kept.
        options: further arguments of the method. A ``seed`` among them is replaced by one for each partition; None draws
            one.
    """
    from dask import dataframe
    from dask.delayed import delayed

    seed = options.get("seed")
    if "seed" in options and seed is None:
        seed = secrets.randbelow(2**63)
    held = delayed(density, traverse=False)
    ask = delayed(_answer, pure=False)
    parts = [
        ask(held, part, question, options if seed is None else {**options, "seed": partition_seed(seed, number)})
        for number, part in enumerate(frame.to_delayed())
    ]
    fixed = options if seed is None else {**options, "seed": seed}
    meta = _answer(density, frame._meta, question, fixed)
    return dataframe.from_delayed(parts, meta=meta, divisions=frame.divisions)


def sample_partitions(density: Any, num_samples: int, num_partitions: int, *, seed: int | None) -> Any:
    """Draws as a lazy Dask DataFrame of ``num_partitions`` partitions, whose sizes differ by one row at most.

    Args:
        density: fit that is drawn from.
        num_samples: number of rows in all.
        num_partitions: number of partitions.
        seed: seed of all draws; None draws one.

    Raises:
        DataError: Dask is missing, or a number of partitions below 1.
    """
    try:
        from dask import dataframe
        from dask.delayed import delayed
    except ImportError as error:
        raise DataError("partitions need Dask: pip install 'drl-density[tables]'") from error
    if num_partitions < 1:
        raise DataError(f"num_partitions must be at least 1, got {num_partitions}")
    seed = secrets.randbelow(2**63) if seed is None else seed
    held, draw = delayed(density, traverse=False), delayed(_draw, pure=False)
    ends = [num_samples * number // num_partitions for number in range(num_partitions + 1)]
    parts = [
        draw(held, first, last, partition_seed(seed, number))
        for number, (first, last) in enumerate(zip(ends, ends[1:], strict=False))
    ]
    return dataframe.from_delayed(parts, meta=_draw(density, 0, 0, seed))


def _answer(density: Any, frame: Any, question: str, options: dict[str, Any]) -> Any:
    found = getattr(density, question)(frame, **options)
    if found.index.nlevels == frame.index.nlevels:
        return found
    # Dask has no index of several levels: the number of the imputation becomes a column, where there is more than one.
    return found.reset_index(level="imputation") if options["num_samples"] > 1 else found.droplevel("imputation")


def _draw(density: Any, first: int, last: int, seed: int) -> Any:
    frame = density.sample_frame(last - first, seed=seed)
    return frame.set_axis(range(first, last), axis=0)
