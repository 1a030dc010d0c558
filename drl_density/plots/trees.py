"""Groups of the trees behind reports and diagnoses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import xarray as xr


class HasTree(Protocol):
    """A result whose numbers are in a labelled tree, such as a likelihood report or a diagnosis."""

    @property
    def tree(self) -> xr.DataTree:
        """The tree."""
        ...


def group_of(found: HasTree, name: str) -> xr.Dataset:
    """One group of the tree of a result.

    Args:
        found: the result.
        name: name of the group, such as "estimates".
    """
    return found.tree.children[name].to_dataset()
