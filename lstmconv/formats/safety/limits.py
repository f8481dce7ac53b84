"""All limits on the sizes and counts of a file, each with its reason and the environment variable that changes it.

Each limit is far above what Keras, PyTorch and ONNX exporters write, and low enough that a small file
takes less than 1 GB of memory. Some limits grow with the stored bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from lstmconv.errors import About, UnreadableFileError, UsageError

__all__ = [
    "ATTRIBUTE_BYTES",
    "HDF5_OBJECTS",
    "INFLATION",
    "JSON_BYTES",
    "JSON_DEPTH",
    "LAYERS",
    "LIMITS",
    "MODEL_CALLS",
    "ONNX_EVALUATIONS",
    "ONNX_EXPANSION",
    "ONNX_MESSAGES",
    "PICKLE_BYTES",
    "PICKLE_OPCODES",
    "TENSORS",
    "TRACKED_OBJECTS",
    "WALK_SECONDS",
    "ZIP_MEMBERS",
    "Limit",
    "allowed_inflation",
    "parse_json",
    "refuse_many_layers",
]


class Limit(NamedTuple):
    """One limit.

    Attributes:
        variable: The environment variable that sets another value, a whole number.
        default: The value without it.
        reason: The reason for the default.
    """

    variable: str
    default: int
    reason: str

    @property
    def value(self) -> int:
        """The current limit.

        Raises:
            UsageError: The variable is not a whole number.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise UsageError(f"{self.variable} is {text[:40]!r}, expected a whole number")
        return int(text)

    @property
    def way_out(self) -> str:
        """The end of an error message, which says how to read a larger file that the user trusts."""
        return f"if you trust the file, set {self.variable} to more than {self.value}"


WALK_SECONDS = Limit(
    "LSTMCONV_HDF5_SECONDS",
    5,
    "of processor time; an honest 2 GB HDF5 file takes 0.1 s; each 100 MB allow a second more",
)
HDF5_OBJECTS = Limit("LSTMCONV_HDF5_OBJECTS", 50_000, "an LSTM layer has about 6, with its optimizer state 12")
ATTRIBUTE_BYTES = Limit(
    "LSTMCONV_ATTRIBUTE_BYTES", 32 << 20, "the config of a layer takes 0.6 to 2.4 kB; it is held several times"
)
JSON_BYTES = Limit(
    "LSTMCONV_JSON_BYTES", 16 << 20, "the config of a layer takes 0.6 to 2.4 kB; empty lists take 21 times their text"
)
JSON_DEPTH = Limit("LSTMCONV_JSON_DEPTH", 200, "a nested model adds three levels; Python itself gives up near 1,000")
INFLATION = Limit(
    "LSTMCONV_INFLATION",
    100,
    "deflated float32 weights inflate 1.1 times, with 99 % zeros 12 times, zeros alone 1,000 times",
)
PICKLE_BYTES = Limit("LSTMCONV_PICKLE_BYTES", 256 << 20, "a tensor takes about 100 bytes of its pickle")
PICKLE_OPCODES = Limit(
    "LSTMCONV_PICKLE_OPCODES", 3_000_000, "a tensor takes about 40 opcodes; each may leave an object of 100 bytes"
)
ZIP_MEMBERS = Limit("LSTMCONV_ZIP_MEMBERS", 250_000, "a tensor is a member of a .pt; see LSTMCONV_TENSORS")
ONNX_MESSAGES = Limit(
    "LSTMCONV_ONNX_MESSAGES",
    1_000_000,
    "an empty one takes 2 bytes in the file and 170 in memory",
)
ONNX_EXPANSION = Limit(
    "LSTMCONV_ONNX_EXPANSION",
    100_000,
    "nodes, tensors and attributes that functions become; exporters call a few functions for each layer",
)
ONNX_EVALUATIONS = Limit("LSTMCONV_ONNX_EVALUATIONS", 20_000, "each takes 0.3 ms")
MODEL_CALLS = Limit(
    "LSTMCONV_MODEL_CALLS",
    10_000,
    "the largest published models have a few thousand layers; models that call each other twice double without end",
)
LAYERS = Limit("LSTMCONV_LAYERS", 1_000, "how layers feed each other is looked up in pairs: 1,900 ONNX nodes take 9 s")
TENSORS = Limit("LSTMCONV_TENSORS", 250_000, "a pickle within its own limit has up to 75,000")
TRACKED_OBJECTS = Limit(
    "LSTMCONV_TRACKED_OBJECTS",
    500_000,
    "objects and references of a TensorFlow checkpoint, each 300 bytes in memory; a layer of a SavedModel has 150",
)

LIMITS: Sequence[Limit] = (
    WALK_SECONDS,
    HDF5_OBJECTS,
    ATTRIBUTE_BYTES,
    JSON_BYTES,
    JSON_DEPTH,
    INFLATION,
    PICKLE_BYTES,
    PICKLE_OPCODES,
    TENSORS,
    TRACKED_OBJECTS,
    ZIP_MEMBERS,
    ONNX_EXPANSION,
    ONNX_MESSAGES,
    ONNX_EVALUATIONS,
    MODEL_CALLS,
    LAYERS,
)

_FREE_BYTES = 64 << 20
"""The number of bytes to which every file may inflate, however small it is."""


def allowed_inflation(stored: int) -> int:
    """Return to how many bytes ``stored`` bytes may inflate, for all arrays or members of a file together."""
    return max(_FREE_BYTES, INFLATION.value * stored)


def refuse_many_layers(count: int, name: About) -> None:
    """Refuse a file with too many layers.

    Raises:
        UnreadableFileError: ``count`` is larger than :data:`LAYERS`.
    """
    if count > LAYERS.value:
        raise UnreadableFileError(f"more than {LAYERS.value:,} LSTM layers; {LAYERS.way_out}", about=name)


def parse_json(text: str | bytes, name: About) -> Any:
    """Parse JSON from a file, within the limits.

    Args:
        text: The JSON; bytes are UTF-8.
        name: The file's name for errors.

    Raises:
        UnreadableFileError: The text is no JSON, is too long or too deep, or an object has a key twice.
    """
    if len(text) > JSON_BYTES.value:
        raise UnreadableFileError(f"{len(text):,} bytes of JSON; {JSON_BYTES.way_out}", about=name)
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise UnreadableFileError("damaged JSON (nested without end)", about=name) from error
    except ValueError as error:
        raise UnreadableFileError(f"damaged JSON ({error})", about=name) from error
    _refuse_depth(found, name)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:100]!r} twice in one object")
    return found


def _refuse_depth(found: Any, name: About) -> None:
    """Refuse JSON that is nested too deep; it walks level by level, without recursion."""
    deepest = JSON_DEPTH.value
    level: list[Any] = [found]
    for _ in range(deepest + 1):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise UnreadableFileError(f"JSON nested over {deepest} levels deep; {JSON_DEPTH.way_out}", about=name)
