"""A data frame as a source of chunks, of any size of chunk."""

import pandas as pd


class FrameSource:
    """Chunks of at most ``size`` rows of a frame, or of as many as are asked for."""

    where, first_row = "the frame", 1

    def __init__(self, frame: pd.DataFrame, *, size: int | None = None, knows_rows: bool = True):
        self.frame, self.size = frame, size
        self.names = tuple(frame.columns)
        self.num_rows = len(frame) if knows_rows else None
        self.num_passes = 0

    def chunks(self, num_rows, *, names=None):
        self.num_passes += 1
        step = min(num_rows, self.size or num_rows)
        for start in range(0, len(self.frame), step):
            yield self.frame.iloc[start : start + step][list(names or self.names)]
