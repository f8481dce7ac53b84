"""Measure NumPy's transposing by blocks, and writing by sizes: what lstmconv/copying.py chooses its constants by."""

from __future__ import annotations

import tempfile
import time

import numpy as np

SIZES = {"8102": (8102, 1480), "8192": (8192, 1536)}
"""Rows and columns of what is turned, by the size of the layer: a part of a matrix of four times as many columns."""


def speed(size: str, rows: int, columns: int, *, together: bool) -> float:
    """Return the best of three speeds in GB/s; ``together``: each block is first copied to one place."""
    features, units = SIZES[size]
    source = np.random.default_rng(0).random((features, 4 * features), np.float32)[:, 1000 : 1000 + units]
    target = np.zeros((units, features), np.float32)
    buffer = np.empty((rows, columns + 16), np.float32)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for row in range(0, features, rows):
            for column in range(0, units, columns):
                block = source[row : row + rows, column : column + columns]
                if together:
                    np.copyto(buffer[: block.shape[0], : block.shape[1]], block)
                    block = buffer[: block.shape[0], : block.shape[1]]
                np.copyto(target[column : column + columns, row : row + rows].T, block)
        best = min(best, time.perf_counter() - start)
    return target.nbytes / best / 1e9


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
    for size in SIZES:
        print(f"size {size}, source rows x columns, GB/s directly, GB/s block by block in one place")
        for shape in ((64, 64), (64, 512), (128, 128), (256, 128), (256, 256), (512, 128), (512, 512), (8192, 1536)):
            speeds = (speed(size, *shape, together=together) for together in (False, True))
            print(f"{shape[0]:6} x {shape[1]:<6}" + "".join(f"{each:8.2f}" for each in speeds))
    print("written at a time, GB/s")
    taken = {size: [written(size) for _ in range(3)][1:] for size in (1, 4, 48)}  # The first one finds memory cold.
    print("".join(f"{size:3} MiB{max(speeds):8.2f}\n" for size, speeds in taken.items()), end="")
