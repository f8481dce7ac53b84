"""Measure NumPy's transposing by blocks, and writing by sizes: what lstmconv/copying.py chooses its constants by."""

from __future__ import annotations

import tempfile
import time

import numpy as np

SOURCE = np.random.default_rng(0).random((5632, 22528), np.float32)[:1024, 1000:1512]
TARGET = np.zeros((512, 1024), np.float32)


def seconds(rows: int, columns: int) -> float:
    """Return the best of five transpositions of 1024 x 512 numbers, a part of a larger matrix."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for row in range(0, 1024, rows):
            for column in range(0, 512, columns):
                TARGET[column : column + columns, row : row + rows] = SOURCE[
                    row : row + rows, column : column + columns
                ].T
        best = min(best, time.perf_counter() - start)
    return best


def written(megabytes: int) -> float:
    """Return how many GB/s go into a new file that is written so much at a time."""
    content = np.ones(48 << 20, np.uint8).data
    with tempfile.TemporaryFile() as file:
        start = time.perf_counter()
        for _ in range(10):
            for place in range(0, len(content), megabytes << 20):
                file.write(content[place : place + (megabytes << 20)])
        return 10 * len(content) / (time.perf_counter() - start) / 1e9


if __name__ == "__main__":
    widths = (16, 64, 256, 512)
    print("source rows x columns, GB/s\n      " + "".join(f"{width:8}" for width in widths))
    for height in (8, 16, 32, 64, 128, 1024):
        print(f"{height:6}" + "".join(f"{TARGET.nbytes / seconds(height, width) / 1e9:8.2f}" for width in widths))
    print("written at a time, GB/s")
    taken = {size: [written(size) for _ in range(3)][1:] for size in (1, 4, 48)}  # The first one finds memory cold.
    print("".join(f"{size:3} MiB{max(speeds):8.2f}\n" for size, speeds in taken.items()), end="")
