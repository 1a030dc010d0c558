"""A random table, and files with faults, that the tests of this room share."""

import numpy as np
import pandas as pd

TABLE = np.random.default_rng(0).normal(size=(200, 3))
FRAME = pd.DataFrame(TABLE, columns=["a", "b", "c"])


def text(path, content):
    path.write_text(content)
    return str(path)


def cut(path, write):
    """The first half of a file."""
    write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return str(path)
