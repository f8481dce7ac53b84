"""Read cuDNN's weight spaces: with their manifests, or bare with the sizes that the user gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from lstmconv.errors import About, UnreadableFileError, UsageError
from lstmconv.formats.cudnn.packing import BIAS_MODES, CUDNN_KEY, DATA_TYPES, manifest
from lstmconv.formats.format import Opened
from lstmconv.formats.hashing import hashing
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import BufferSizes, ReadOptions
from lstmconv.formats.overrides import overruled
from lstmconv.formats.record import KEY, Record, parse_record
from lstmconv.formats.restoring import restore
from lstmconv.formats.safety.limits import JSON_BYTES, parse_json, refuse_many_layers
from lstmconv.formats.torch.safetensors import read_safetensors
from lstmconv.layouts import CUDNN, Pattern
from lstmconv.model import Array, Checkpoint, Gates, LSTMDirection, LSTMLayer, Provenance, Stack, float_type

__all__ = ["WeightSpaces", "open_file"]


def open_file(file: MappedFile, options: ReadOptions) -> Opened:
    """Open a file of weight spaces; arrays are views into it.

    Args:
        file: ``.cudnn.safetensors``; or a bare buffer, with a JSON beside it that says what is in it, or
            with ``options.buffer``.
        options: See :class:`~lstmconv.formats.ReadOptions`.

    Raises:
        UnreadableFileError: The manifest and the buffer do not belong together, or a buffer is too short.
        UsageError: A bare buffer without its sizes.
    """
    if options.buffer is not None:
        bare = options.buffer
        return Opened(None, None, lambda: _read_bare(file, options, bare))
    content = _read_spaces(file)
    return Opened(content.record, content, lambda: _interpret(file, content, options))


def _interpret(file: MappedFile, content: WeightSpaces, options: ReadOptions) -> Checkpoint:
    """Read every weight space as layers."""
    found: dict[str, tuple[LSTMLayer, ...]] = {}
    notes: list[str] = []
    for name, entry in content.manifests.items():
        where = (file.name, f"'{name}'")
        found[name] = _unpacked(name, content.spaces[name], _sizes(entry, where), where, notes)
        own = manifest(Stack(name, found[name]), BIAS_MODES[entry["biasMode"]].mode)
        _refuse_other_params(entry.get("params", []), own["params"], where)
    restored = restore(found, content.record, file.name)
    parts = () if file.path.suffix == ".safetensors" else (file.path.with_suffix(".json").name,)
    return overruled(
        Checkpoint(
            layers=restored.layers,
            provenance=Provenance(file.name, hashing(file), "cuDNN weight space", parts=parts),
            edges=restored.edges,
            joined=restored.joined,
            notes=(*restored.notes, *notes),
        ),
        options,
    )


def _refuse_other_params(stated: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]], where: About) -> None:
    """Refuse a manifest that says anything else of any array than what the packed order makes of it."""
    if len(stated) != len(own):
        raise UnreadableFileError(f"its manifest lists {len(stated)} arrays, expected {len(own)}", about=where)
    for number, (found, expected) in enumerate(zip(stated, own, strict=True)):
        for key, value in expected.items():
            if found.get(key) != value:
                raise UnreadableFileError(
                    f"its manifest's params[{number}] says {key} {found.get(key)!r}, expected {value!r} in "
                    "cuDNN's packed order; convert the source again",
                    about=where,
                )


class WeightSpaces(NamedTuple):
    """The content of a file of weight spaces.

    Attributes:
        record: What lstmconv recorded in it.
        manifests: By the stack's name; what lstmconv says of each buffer, in cuDNN's names.
        spaces: Each stack's flat buffer, a view into the file.
    """

    record: Record | None
    manifests: Mapping[str, Any]
    spaces: Mapping[str, Array]


def _read_spaces(file: MappedFile) -> WeightSpaces:
    """Read the record, the manifests, and each stack's flat buffer.

    Raises:
        UnreadableFileError: There is no manifest, or the file is shorter than it says.
        UsageError: A bare buffer without a JSON beside it.
    """
    path = file.path
    if path.suffix == ".safetensors":
        spaces, metadata = read_safetensors(file)
        if CUDNN_KEY not in metadata:
            raise UnreadableFileError("has no cudnn manifest; is it a state dict?", about=path.name)
        manifests = _manifests(metadata[CUDNN_KEY], path.name)
        missing = sorted(set(manifests) - set(spaces))
        if missing:
            raise UnreadableFileError(f"the manifest names '{missing[0]}', which is not in the file", about=path.name)
        return WeightSpaces(parse_record(metadata.get(KEY)), manifests, spaces)
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        raise UsageError(
            f"a bare buffer does not say what is in it, and {sidecar.name} is not beside it; "
            "pass --input-size, --hidden-size and, where they are not 1, forwards and double, "
            "--num-layers, --bidirectional and --bias-mode",
            about=path.name,
        )
    described = parse_json(MappedFile(sidecar).content[: JSON_BYTES.value + 1].tobytes(), sidecar.name)
    if not isinstance(described, dict):
        raise UnreadableFileError("not the JSON that lstmconv writes beside a buffer", about=sidecar.name)
    texts = {key: json.dumps(described.get(key)) for key in (CUDNN_KEY, KEY)}
    manifests = _manifests(texts[CUDNN_KEY], sidecar.name)
    content = file.content
    found: dict[str, Array] = {}
    for name, entry in manifests.items():
        start, size = entry.get("fileOffset"), entry["weightSpaceSize"]
        if not isinstance(start, int) or start < 0 or start + size > content.nbytes:
            raise UnreadableFileError(f"'{name}' ends at byte {start} + {size} of {content.nbytes}", about=path.name)
        element = _element(entry)
        if size % element.itemsize:
            raise UnreadableFileError(f"'{name}' takes {size:,} bytes, no whole number of {element}", about=path.name)
        found[name] = content[start : start + size].view(element)
    return WeightSpaces(parse_record(texts[KEY]), manifests, found)


def _manifests(text: str, where: str) -> dict[str, Any]:
    """Parse the manifests, each with the sizes that reading needs."""
    try:
        found = parse_json(text, where)
        for entry in found.values():
            sizes = [entry[key] for key in ("inputSize", "hiddenSize", "numLayers", "weightSpaceSize")]
            known = entry["biasMode"] in BIAS_MODES and f"{entry['dataType']}" in DATA_TYPES.values()
            if not known or not all(type(size) is int and 0 < size < 1 << 40 for size in sizes):
                raise ValueError("sizes or modes that no LSTM has")
            params = entry.get("params", [])
            if not isinstance(params, list) or not all(isinstance(param, dict) for param in params):
                raise ValueError("params that are no list of objects")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileError(
            f"its cudnn manifest is not one that lstmconv writes ({error!r})", about=where
        ) from error
    refuse_many_layers(sum(entry["numLayers"] for entry in found.values()), where)
    return dict(found)


def _element(entry: Mapping[str, Any]) -> np.dtype[Any]:
    return float_type(next(name for name, code in DATA_TYPES.items() if code == entry["dataType"]))


def _sizes(entry: Mapping[str, Any], where: About) -> BufferSizes:
    """Return the sizes that a manifest states.

    Raises:
        UnreadableFileError: A cell, or a projection, that is no plain LSTM's.
    """
    plain = entry.get("cellMode") == "CUDNN_LSTM" and entry.get("projSize") == entry["hiddenSize"]
    if not plain or entry.get("dirMode") not in ("CUDNN_UNIDIRECTIONAL", "CUDNN_BIDIRECTIONAL"):
        raise UnreadableFileError(
            f"{entry.get('cellMode')}, projSize {entry.get('projSize')}: no plain LSTM", about=where
        )
    return BufferSizes(
        entry["inputSize"],
        entry["hiddenSize"],
        entry["numLayers"],
        entry["dirMode"] == "CUDNN_BIDIRECTIONAL",
        BIAS_MODES[entry["biasMode"]].mode,
        _element(entry).name,
    )


def _read_bare(file: MappedFile, options: ReadOptions, sizes: BufferSizes) -> Checkpoint:
    """Read one bare buffer whose sizes the user gives."""
    refuse_many_layers(sizes.num_layers, file.name)
    element = float_type(sizes.dtype)
    if file.size % element.itemsize:
        raise UnreadableFileError(f"{file.size:,} bytes are no whole number of {element}", about=file.name)
    notes: list[str] = []
    name = file.name.split(".")[0]
    layers = _unpacked(name, file.content.view(element), sizes, (file.name,), notes)
    joined = {name: tuple(layer.name for layer in layers)} if len(layers) > 1 else {}
    checkpoint = Checkpoint(
        layers=layers,
        provenance=Provenance(file.name, hashing(file), "cuDNN weight space (bare)"),
        edges=tuple(pairwise(layer.name for layer in layers)),
        joined=joined,
        notes=tuple(notes),
    )
    return overruled(checkpoint, options)


def _unpacked(
    name: str, space: Array, sizes: BufferSizes, where: tuple[str, ...], notes: list[str]
) -> tuple[LSTMLayer, ...]:
    """Return views of a buffer as layers, in the packed order; elements behind the last array become a note."""
    hidden, ways = sizes.hidden_size, 2 if sizes.bidirectional else 1
    biased = next(biases.stored for biases in BIAS_MODES.values() if biases.mode == sizes.bias_mode)
    inputs = [sizes.input_size if k < ways else ways * hidden for k in range(sizes.num_layers * ways)]
    needed = sum(4 * hidden * (features + hidden + sum(biased)) for features in inputs)
    if space.size < needed:
        raise UnreadableFileError(
            f"the weight space has {space.size:,} elements of {space.dtype}, expected {needed:,} for "
            f"{sizes.num_layers} x {ways} pseudo-layers of {hidden} units with bias mode {sizes.bias_mode}",
            about=where,
        )
    if space.size > needed:
        behind = space.size - needed
        notes.append(
            f"{': '.join(where)}: {behind:,} elements follow the {needed:,} that the sizes require; they are ignored"
        )
    position = 0

    def take(pattern: Pattern, count: int) -> Gates:
        nonlocal position
        position += count
        return pattern.view(space[position - count : position], hidden)

    matrices = [
        (take(CUDNN.input_matrix, 4 * hidden * features), take(CUDNN.recurrent_matrix, 4 * hidden * hidden))
        for features in inputs
    ]
    directions: list[LSTMDirection] = []
    for index, (weight_ih, weight_hh) in enumerate(matrices):
        bias_ih, bias_hh = (take(CUDNN.one_bias, 4 * hidden) if stored else None for stored in biased)
        backwards = index % ways == 1
        directions.append(
            LSTMDirection(weight_ih, weight_hh, bias_ih, bias_hh, go_backwards=backwards, layout=CUDNN.name)
        )
    names = [name] if sizes.num_layers == 1 else [f"{name}_l{k}" for k in range(sizes.num_layers)]
    backward: Sequence[LSTMDirection | None] = directions[1::2] if ways == 2 else [None] * len(names)
    return tuple(
        LSTMLayer(own, first, second, class_name="cuDNN LSTM")
        for own, first, second in zip(names, directions[::ways], backward, strict=True)
    )
