"""Measure what lstmconv.arrays.copying chooses its constants by: blocks to turn by, slabs to fill, pieces to write."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from lstmconv.arrays import copying
from lstmconv.arrays.copying import slabs
from lstmconv.layouts import KERAS, TORCH

SIZES = {"8102": (8102, 1480), "8192": (8192, 1536)}
"""Rows and columns of what is turned, by the size of the layer: a part of a matrix of four times as many columns."""


def speed(size: str, rows: int, wide: int, columns: int, *, together: bool) -> float:
    """Return the best of three speeds in GB/s at which a matrix is turned.

    Args:
        size: One of SIZES.
        rows: Of the source, at a time.
        wide: Columns read at a time; ``together``: copied to one place first.
        columns: Of those, turned at a time.
    """
    features, units = SIZES[size]
    source = np.random.default_rng(0).random((features, 4 * features), np.float32)[:, 1000 : 1000 + units]
    target = np.zeros((units, features), np.float32)
    buffer = np.empty((rows, wide + 16), np.float32)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for row in range(0, features, rows):
            for place in range(0, units, wide):
                block = source[row : row + rows, place : place + wide]
                spot = target[place : place + wide, row : row + rows]
                if together:
                    np.copyto(buffer[: block.shape[0], : block.shape[1]], block)
                    block = buffer[: block.shape[0], : block.shape[1]]
                for column in range(0, block.shape[1], columns):
                    np.copyto(spot[column : column + columns].T, block[:, column : column + columns])
        best = min(best, time.perf_counter() - start)
    return target.nbytes / best / 1e9


def filled(megabytes: int) -> float:
    """Return at how many GB/s a mapped kernel of 256 MB is turned in slabs of so many MiB."""
    copying._SLAB_BYTES = megabytes << 20
    with tempfile.TemporaryDirectory() as folder:
        kernel = np.memmap(Path(folder) / "kernel", np.float32, "w+", shape=(4000, 16000))
        kernel[:] = 1
        kernel = np.asarray(np.memmap(Path(folder) / "kernel", np.float32, "r", shape=kernel.shape))
        start = time.perf_counter()
        for _ in slabs([(TORCH.input_matrix, KERAS.input_matrix.view(kernel))], kernel.dtype):
            pass
        return kernel.nbytes / (time.perf_counter() - start) / 1e9


def written(kilobytes: int) -> float:
    """Return how many GB/s go into a new file of 2 GB that is written so many KiB at a time, after a rest."""
    content = np.ones(50 << 20, np.uint8).data
    time.sleep(2)
    with tempfile.TemporaryFile() as file:
        start = time.perf_counter()
        for _ in range(40):
            for place in range(0, len(content), kilobytes << 10):
                file.write(content[place : place + (kilobytes << 10)])
        return 40 * len(content) / (time.perf_counter() - start) / 1e9


if __name__ == "__main__":
    for size in SIZES:
        print(f"size {size}: rows x columns read, columns turned; GB/s directly, GB/s put together first")
        for shape in (
            (64, 64, 64),
            (128, 128, 128),
            (256, 256, 256),
            (256, 4096, 256),
            (512, 512, 512),
            (8192, 4096, 4096),
        ):
            speeds = (speed(size, *shape, together=together) for together in (False, True))
            print(f"{shape[0]:6} x {shape[1]:<6}{shape[2]:6}" + "".join(f"{each:8.2f}" for each in speeds))
    for what, unit, function, sizes in (
        ("filled by slabs of", "MiB", filled, (8, 48, 128)),
        ("written at a time", "KiB", written, (16, 64, 256, 512, 1024, 4096)),
    ):
        print(f"{what}, GB/s")
        taken = {size: [function(size) for _ in range(4)][1:] for size in sizes}  # The first one finds memory cold.
        print("".join(f"{size:5} {unit}{statistics.median(speeds):8.2f}\n" for size, speeds in taken.items()), end="")
