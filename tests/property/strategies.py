"""LSTM layers of any size, dtype and bits, for hypothesis."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from tests.contract.building import Half, make_layer

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}

# By dtype, as bits.
_SPECIAL = {
    "float16": [0x8000, 0x0001, 0x83FF, 0x7C00, 0xFC00, 0x7E01, 0xFDFF, 0x7BFF],
    "bfloat16": [0x8000, 0x0001, 0x807F, 0x7F80, 0xFF80, 0x7FC1, 0xFFBF, 0x7F7F],
    "float32": [0x80000000, 1, 0x807FFFFF, 0x7F800000, 0xFF800000, 0x7FC12345, 0xFFBFFFFF, 0x7F7FFFFF],
    "float64": [1 << 63, 1, 1 << 63 | 0xFFFFF, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48 | 0x12345, 0xFFF0 << 48 | 7],
}
"""-0.0, two subnormals, both infinities, a quiet and a signalling NaN with payloads, and the like."""


def numbers(dtype: str) -> st.SearchStrategy[int]:
    """Draw one number's bits: any, or one of those that a careless copy changes."""
    width = DTYPES[dtype].itemsize * 8
    return st.one_of(st.sampled_from(_SPECIAL[dtype]), st.integers(0, (1 << width) - 1))


@st.composite
def arrays(draw: st.DrawFn, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw an array: seeded random bits, with a handful of drawn numbers at drawn places."""
    element = DTYPES[dtype]
    bits = np.dtype(f"u{element.itemsize}")
    count = int(np.prod(shape))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.integers(0, np.iinfo(bits).max, count, dtype=bits, endpoint=True)
    for _ in range(draw(st.integers(0, 4))):
        values[draw(st.integers(0, count - 1))] = draw(numbers(dtype))
    return values.reshape(shape).view(element)


@st.composite
def halves(draw: st.DrawFn, dtype: str, features: int, hidden: int, *, backwards: bool, bias: bool) -> Half:
    """Draw one direction."""
    return Half(
        draw(arrays(dtype, (features, 4 * hidden))),
        draw(arrays(dtype, (hidden, 4 * hidden))),
        draw(arrays(dtype, (4 * hidden,))) if bias else None,
        go_backwards=backwards,
    )


@st.composite
def layers(draw: st.DrawFn) -> tuple[list[Half], object]:
    """Draw the halves of a layer, and the layer."""
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    features, hidden = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    directions = draw(st.integers(1, 2))
    made = [
        draw(halves(dtype, features, hidden, backwards=k == 1, bias=draw(st.booleans()))) for k in range(directions)
    ]
    return made, make_layer(*made)
