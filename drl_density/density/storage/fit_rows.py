"""The rows of a fit, loaded again and checked: rows that were trained on are never taken for test rows."""

from __future__ import annotations

from drl_density.datasets import Dataset, load_again
from drl_density.density.provenance import Provenance, RowDigest
from drl_density.errors import DataError

ADVICE = "give a table of rows that were not trained on"


def load_fit_rows(provenance: Provenance) -> Dataset:
    """Load the rows of a fit again, in the same split.

    Args:
        provenance: how the fit came about, with the digest of its rows.

    Returns:
        The data set whose training, validation and test rows are those of the fit, to the last bit.

    Raises:
        DataError: rows that were an array in memory, a source that has moved, or one that has changed since the fit.

    >>> import drl_density as drl
    >>> data = drl.load_dataset("banana", seed=0, num_rows=100)
    >>> provenance = drl.density.Provenance(source=data.source, loading=data.loading, rows=RowDigest.of(data))
    >>> bool((load_fit_rows(provenance).test == data.test).all())
    True
    """
    source, earlier = provenance.source, provenance.rows
    if earlier is None:
        raise DataError(f"this density was not fitted to rows, so it has no test rows: {ADVICE}")
    if not source:
        raise DataError(f"the rows of this fit were an array or a frame in memory and cannot be loaded again: {ADVICE}")
    try:
        dataset = load_again(source, provenance.loading)
    except (DataError, OSError) as error:
        raise DataError(f"the rows of this fit cannot be loaded again: {error}; {ADVICE}") from error
    changes = RowDigest.of(dataset).changes(earlier)
    if changes:
        raise DataError(
            f"{source} has changed since the fit: {changes}. Its split is another one now, and its test rows may have been "
            f"trained on: restore the file, or {ADVICE}"
        )
    return dataset
