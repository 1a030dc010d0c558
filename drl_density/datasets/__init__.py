"""Data sets from names, files and arrays: columns recognised, rows split, transform chosen."""

from drl_density.datasets.column import Column
from drl_density.datasets.columns import notice_columns
from drl_density.datasets.dataset import Dataset
from drl_density.datasets.load import load_again, load_dataset, read_rows
from drl_density.datasets.memorization import MemorizationCheck, memorization_check
from drl_density.datasets.splits import Split, folds
from drl_density.datasets.tables.chunks import open_table
from drl_density.datasets.tables.reading import ReadOptions, TableReader
from drl_density.datasets.toys import TOYS, Toy
from drl_density.datasets.treatment import choose_transform

__all__ = [
    "TOYS",
    "Column",
    "Dataset",
    "MemorizationCheck",
    "ReadOptions",
    "Split",
    "TableReader",
    "Toy",
    "choose_transform",
    "folds",
    "load_again",
    "load_dataset",
    "memorization_check",
    "notice_columns",
    "open_table",
    "read_rows",
]
