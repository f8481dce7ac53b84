"""The arrays of every layer of a whole Keras file, by paths and slices written out from Keras' own sources.

Nothing here knows :mod:`lstmconv.formats.keras` or the layouts: a layer is found as the n-th of its class in the
config (keras/src/saving/saving_lib.py ``_save_container_state``) or by its name (legacy_h5_format.py), and its
variables are identified by the order in which each layer's ``build`` adds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstmconv.model import Array, GRUDirection, Layer, LSTMLayer, RecurrentLayer, Stack, TimeDistributed, kinds
from lstmconv.model.kinds import Kind
from lstmconv.runtimes import DecodedLayer
from lstmconv.runtimes.keras_file import KerasContent, array_of, decode_cell, layer_places, strings

__all__ = ["decode_model"]


class _Found(NamedTuple):
    """One layer of the file.

    Attributes:
        class_name: As the config has it.
        config: Its options.
        parts: The arrays of each object inside that owns some, in Keras' order.
    """

    class_name: str
    config: Mapping[str, Any]
    parts: Sequence[Sequence[Array]]


def decode_model(content: KerasContent, layers: Sequence[Layer]) -> Mapping[str, DecodedLayer]:
    """Return every layer's arrays by its name; of the given layers only names, kinds and shapes are read."""
    if content.config is None:
        return {}
    found = {name: each for name, each in _layers(content) if each.class_name != "TimeDistributed"}
    decoded: dict[str, DecodedLayer] = {}
    for layer in layers:
        for one in layer.layers if isinstance(layer, Stack) else (layer,):
            if isinstance(one, TimeDistributed):
                continue
            if isinstance(one, LSTMLayer | RecurrentLayer):
                cells = _cells(found, one.name)
                if cells:
                    decoded[one.name] = _directions(one, cells)
            elif isinstance(one, Kind) and one.name in found:
                arrays = _arrays(one, found[one.name])
                if arrays:
                    decoded[one.name] = arrays
    return decoded


def _layers(content: KerasContent) -> Iterator[tuple[str, _Found]]:
    """Yield every layer of the model, and those inside TimeDistributed."""
    assert content.config is not None
    for entry, place in layer_places(content.config["config"]["layers"]):
        yield from _one(content, entry, place, entry["config"]["name"], ())


def _one(
    content: KerasContent, entry: Mapping[str, Any], place: str, owner: str, scope: tuple[str, ...]
) -> Iterator[tuple[str, _Found]]:
    """Yield one layer.

    Args:
        content: The file.
        entry: The layer's config.
        place: Its path in a ``.keras`` file.
        owner: The layer of the model that it belongs to, whose group a legacy file has.
        scope: What the names of its arrays in that group begin with.
    """
    name, config = entry["config"]["name"], entry["config"]
    if entry["class_name"] == "TimeDistributed":
        inner = config["layer"]
        if inner["class_name"] != "Functional":
            yield from _one(content, inner, f"{place}/layer", owner, scope)
            return
        for each, below in layer_places(inner["config"]["layers"], f"{place}/layer/"):
            own = (*scope, each["config"]["name"])
            yield from _one(content, each, below, owner, own)
        return
    parts = _legacy_parts(content, owner, scope) if content.legacy else _native_parts(content, place)
    yield name, _Found(entry["class_name"], config, parts)


_INSIDE = (
    ("forward_layer", "cell"), ("backward_layer", "cell"), ("cell",),
    *(((f"{mark}{part}_dense",)) for part in ("query", "key", "value", "output") for mark in ("", "_")),
)  # fmt: skip
"""The objects that own a layer's variables, in Keras' order; other layers own theirs themselves."""


def _native_parts(content: KerasContent, place: str) -> list[list[Array]]:
    groups = [_group(content, place, path) for path in ((), *_INSIDE)]
    return [arrays for group in groups if (arrays := _numbered(group))]


def _group(content: KerasContent, place: str, path: tuple[str, ...]) -> Any:
    group: Any = content.file
    for step in (*place.split("/"), *path, "vars"):
        if not isinstance(group, Mapping) or step not in group:
            return {}
        group = group[step]
    return group


def _numbered(group: Mapping[str, Any]) -> list[Array]:
    return [array_of(group[key]) for key in sorted((key for key in group if key.isdigit()), key=int)]


def _legacy_parts(content: KerasContent, owner: str, scope: tuple[str, ...]) -> list[list[Array]]:
    """Group a layer's arrays by what stands before the variable's own name, in the order of weight_names."""
    if owner not in content.weights:
        return []
    group = content.weights[owner]
    parts: dict[tuple[str, ...], list[Array]] = {}
    for path in strings(group, "weight_names"):
        head = tuple(path.split("/")[:-1])
        if head[1 : 1 + len(scope)] == scope:
            parts.setdefault(head, []).append(array_of(group[path]))
    return list(parts.values())


def _cells(found: Mapping[str, _Found], name: str) -> list[Sequence[Array]]:
    """Return the arrays of each direction; the halves of a Bidirectional may be layers of their own."""
    own = found.get(name)
    if own is not None and own.parts:
        return list(own.parts)
    halves = [found[half] for half in (f"{name}_forward", f"{name}_backward") if half in found]
    return [half.parts[0] for half in halves if half.parts]


def _directions(layer: LSTMLayer | RecurrentLayer, cells: Sequence[Sequence[Array]]) -> DecodedLayer:
    if isinstance(layer, LSTMLayer):
        names = ("kernel", "recurrent_kernel", "bias")
        return tuple(decode_cell(dict(zip(names, cell, strict=False))) for cell in cells)
    kind = _gru if isinstance(layer.forward, GRUDirection) else _simple_rnn
    return tuple(kind(*cell) for cell in cells)


def _gru(kernel: Array, recurrent: Array, bias: Array | None = None) -> Mapping[str, Array]:
    """Cut the columns z r h (GRUCell.build); a bias of two rows has the recurrent one second."""
    units = recurrent.shape[0]

    def gates(array: Array) -> Array:
        return np.stack([array[:, gate * units : (gate + 1) * units].T for gate in range(3)])

    found = {"weight_ih": gates(kernel), "weight_hh": gates(recurrent)}
    if bias is not None:
        rows = bias.reshape(-1, 3, units)
        found |= dict(zip(("bias_ih", "bias_hh"), rows, strict=False))
    return found


def _simple_rnn(kernel: Array, recurrent: Array, bias: Array | None = None) -> Mapping[str, Array]:
    found = {"weight_ih": kernel.T, "weight_hh": recurrent.T}
    return found if bias is None else found | {"bias_ih": bias}


def _arrays(layer: Kind, found: _Found) -> Mapping[str, Array]:
    """Return the arrays of a layer that is not recurrent, in the order in which its ``build`` adds them."""
    config = found.config
    if isinstance(layer, kinds.MultiHeadAttention):
        parts = zip(("query", "key", "value", "output"), found.parts, strict=True)
        return {
            f"{part}_{name}": array
            for part, arrays in parts
            for name, array in zip(("kernel", "bias"), arrays, strict=False)
        }
    own = list(found.parts[0]) if found.parts else []
    names: tuple[str, ...]
    if isinstance(layer, kinds.BatchNormalization | kinds.LayerNormalization):
        scaled = (("gamma", config.get("scale", True)), ("beta", config.get("center", True)))
        names = tuple(name for name, there in scaled if there)
        if found.class_name == "RMSNormalization":
            names = ("gamma",)
        names = (*names, "mean", "variance") if isinstance(layer, kinds.BatchNormalization) else names
    elif isinstance(layer, kinds.Attention):
        score = config.get("score_mode")
        names = (*(("scale",) if config.get("use_scale") else ()), *(("concat_score_weight",) * (score == "concat")))
    elif isinstance(layer, kinds.Normalization):
        names, own = ("mean", "variance"), [array.reshape(layer.mean.shape) for array in own[:2]]
    else:
        names = _NAMES.get(type(layer), ())
    if found.class_name.startswith("DepthwiseConv"):  # (..., input, multiplier)
        own[0] = own[0].reshape(*own[0].shape[:-2], 1, -1)
    if type(layer) not in _NAMES:
        return dict(zip(names, own, strict=True))
    # A layer may have no bias. An array that is left over shows as one that the source does not have.
    spare = {f"array {number}": array for number, array in enumerate(own[len(names) :], len(names))}
    return dict(zip(names, own, strict=False)) | spare


_NAMES: Mapping[type[Kind], tuple[str, ...]] = {
    kinds.Dense: ("kernel", "bias"),
    kinds.Embedding: ("table",),
    kinds.PReLU: ("slope",),
    kinds.Convolution: ("kernel", "bias"),
    kinds.TransposedConvolution: ("kernel", "bias"),
}
