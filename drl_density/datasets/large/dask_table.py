"""A Dask DataFrame as a table that is read in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def is_dask_frame(source: Any) -> bool:
    """Whether an object is a Dask DataFrame. Dask is not imported for the answer.

    >>> is_dask_frame([1.0])
    False
    """
    return type(source).__module__.partition(".")[0] == "dask" and hasattr(source, "partitions")


def as_pandas(frame: Any) -> Any:
    """The whole of a Dask DataFrame in memory."""
    return frame.compute()


class DaskTable:
    """A Dask DataFrame, whose partitions are computed one after another, each as often as it is read.

    They run on the scheduler in force: threads, processes, or the cluster of the current client. One partition at a time
    is held in memory.

    Args:
        frame: the frame. Its index is left out.
    """

    where = "the Dask DataFrame"
    first_row = 1

    def __init__(self, frame: Any) -> None:
        self.frame = frame
        self.names = tuple(str(name) for name in frame.columns)
        self.num_rows: int | None = int(frame.map_partitions(len, meta=("rows", "int64")).sum().compute())

    def chunks(self, num_rows: int, *, names: Sequence[str] | None = None) -> Iterator[Any]:
        """All rows of the columns ``names`` in the order of the partitions, at most ``num_rows`` at a time."""
        wanted = self.names if names is None else names
        frame = self.frame[[self.frame.columns[self.names.index(name)] for name in wanted]]
        for number in range(frame.npartitions):
            part = frame.partitions[number].compute().set_axis(list(wanted), axis=1).reset_index(drop=True)
            for start in range(0, len(part), num_rows):
                yield part.iloc[start : start + num_rows]
