"""Run a whole state dict as lstmconv.torch's module, and decode the arrays of all its layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from lstmconv._optional import require
from lstmconv.formats import Artifact
from lstmconv.model import Array, Call, Gates, Layer, LSTMLayer, RecurrentLayer, Stack, TimeDistributed
from lstmconv.model.kinds import (
    BatchNormalization,
    Convolution,
    Dense,
    Embedding,
    LayerNormalization,
    MultiHeadAttention,
    PReLU,
    TransposedConvolution,
)
from lstmconv.runtimes import DecodedDirection, DecodedLayer, LoadedModel, Precision
from lstmconv.semantics.graph import final_states, state_slots, stateful_calls

__all__ = ["begun_states", "blocks", "decode_model", "load_model"]


def load_model(artifact: Artifact) -> LoadedModel:
    """Build the module of a whole file, once for all runs; half precisions are widened first, which is exact."""
    torch = require("torch", "Running a state dict")
    from lstmconv.torch import to_torch

    module: Any = to_torch(artifact.checkpoint)
    model = artifact.checkpoint.model
    assert model is not None
    floats = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    wide = torch.float64 if torch.float64 in floats else torch.float32
    module = module.to(wide)
    width = str(wide).removeprefix("torch.")
    inputs = tuple(entry._replace(dtype=width) if entry.is_float else entry for entry in model.inputs)
    stateful = stateful_calls(model)

    def compute(given: Mapping[str, Array]) -> Mapping[str, Array]:
        module.reset_states()
        begun = [call for call in stateful if any(slot.initial in given for slot in state_slots(call))]
        for call in begun:
            states = begun_states(call, given)
            module.kept_states[_path(call)] = tuple(torch.from_numpy(state).to(wide) for state in states)
        with torch.no_grad():
            found = module(*(torch.from_numpy(np.asarray(given[entry.name]).astype(entry.dtype)) for entry in inputs))
        outputs = found if isinstance(found, list) else [found]
        returned = {name: tensor.numpy() for name, tensor in zip(model.outputs, outputs, strict=True)}
        for call in begun:
            returned |= final_states(call, [state.double().numpy() for state in module.kept_states[_path(call)]])
        return returned

    return LoadedModel(f"torch {torch.__version__}", Precision(width, width), inputs, tuple(model.outputs), compute)


def begun_states(call: Call, given: Mapping[str, Array]) -> list[Array]:
    """Return the given initial states of a stateful call, in the order of :attr:`Call.states`."""
    flat = {half: row for slot in state_slots(call) for half, row in zip(slot.halves, given[slot.initial], strict=True)}
    return [np.asarray(flat[half]) for half in sorted(flat)]


def _path(call: Call) -> tuple[str, ...]:
    return tuple(call.layer.name.replace("/", ".").split("."))


def decode_model(state: Mapping[str, Array], described: object, layers: Iterable[Layer]) -> Mapping[str, DecodedLayer]:
    """Return every layer's arrays by its name, as PyTorch loads them.

    From the given layers only names, kinds and the count of heads are read, and whether a layer has an array in whose
    place PyTorch's module needs one: ones, or zeros. Sources: torch.nn.Linear, Conv1d, ConvTranspose1d, BatchNorm1d,
    LayerNorm, LSTM, GRU, RNN, MultiheadAttention, Variables.
    """
    stated = dict(_stated(described))
    decoded: dict[str, DecodedLayer] = {}
    for layer in layers:
        prefix = layer.name.replace("/", ".") + "."
        own = {key[len(prefix) :]: array for key, array in state.items() if key.startswith(prefix)}
        if isinstance(layer, Stack):
            decoded |= _stack(layer, own)
        elif isinstance(layer, LSTMLayer):
            decoded[layer.name] = tuple(map(_lstm, _ways(own, "_l0")))
        elif isinstance(layer, RecurrentLayer):
            ways = zip(_ways(own, "_l0"), layer.directions, strict=False)
            decoded[layer.name] = tuple(_gru(way, half) for way, half in ways)
        elif layer.name in stated:
            decoded[layer.name] = stated[layer.name]
        elif own and not isinstance(layer, TimeDistributed):
            decoded[layer.name] = _arrays(layer, own)
    return decoded


def _stated(described: Any) -> Iterator[tuple[str, Mapping[str, Array]]]:
    """Yield the constants that the record holds and no tensor, by the layer's name."""
    for layer in described["layers"] if described else ():
        if layer["kind"] == "TimeDistributed":
            yield from _stated(layer["model"])
        found = {name: entry for name, entry in layer.items() if isinstance(entry, dict) and "values" in entry}
        if found:
            yield (
                layer["name"],
                {
                    name: np.array(
                        [float(x) if isinstance(x, str) else x for x in entry["values"]], entry["dtype"]
                    ).reshape(entry["shape"])
                    for name, entry in found.items()
                },
            )


def _stack(stack: Stack, own: Mapping[str, Array]) -> Mapping[str, DecodedLayer]:
    """Decode one nn.LSTM of several layers, or several of one."""
    found: dict[str, DecodedLayer] = {}
    for number, layer in enumerate(stack.layers):
        alone = {key[len(f"{number}.") :]: array for key, array in own.items() if key.startswith(f"{number}.")}
        ways = _ways(alone, "_l0") if alone else _ways(own, f"_l{number}")
        found[layer.name] = tuple(map(_lstm, ways))
    return found


def _ways(own: Mapping[str, Array], suffix: str) -> list[Mapping[str, Array]]:
    """Return each direction's arrays by name: of one module, or of a module for each half."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    endings = [f"{suffix}", f"{suffix}_reverse"]
    fronts = ["", ""]
    if f"weight_ih{suffix}" not in own:
        endings, fronts = [suffix, suffix], ["forward_layer.", "backward_layer."]
    each = [
        {name: own[key] for name in names if (key := f"{front}{name}{ending}") in own}
        for front, ending in zip(fronts, endings, strict=True)
    ]
    return [way for way in each if way]


def blocks(rows: Array) -> Gates:
    """Cut rows into the gates i f g o (torch.nn.LSTM, Variables)."""
    hidden = rows.shape[0] // 4
    return Gates(rows[0:hidden], rows[hidden : 2 * hidden], rows[2 * hidden : 3 * hidden], rows[3 * hidden :])


def _lstm(way: Mapping[str, Array]) -> DecodedDirection:
    biases: list[Gates | None] = [blocks(way[name]) if name in way else None for name in ("bias_ih", "bias_hh")]
    return DecodedDirection(blocks(way["weight_ih"]), blocks(way["weight_hh"]), *biases)


def _gru(way: Mapping[str, Array], half: Any) -> Mapping[str, Array]:
    """Turn r z n into z r h; an nn.RNN has no gates."""
    gates = way["weight_hh"].shape[0] // way["weight_hh"].shape[1]
    kept = {name: array for name, array in way.items() if getattr(half, name, None) is not None or array.any()}
    if gates == 1:
        return kept
    units = way["weight_hh"].shape[1]
    return {
        name: np.stack([array[units : 2 * units], array[:units], array[2 * units :]]) for name, array in kept.items()
    }


def _arrays(layer: Layer, own: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return the arrays of a layer beside the recurrent ones in the axes of its kind."""
    if isinstance(layer, Dense):
        return {"kernel": own["weight"].T, **_named(own, bias="bias")}
    if isinstance(layer, Embedding):
        return {"table": own["weight"]}
    if isinstance(layer, Convolution | TransposedConvolution):
        weight = own["weight"]
        return {"kernel": weight.transpose(*range(2, weight.ndim), 1, 0), **_named(own, bias="bias")}
    if isinstance(layer, BatchNormalization):
        scale = _named(own, gamma="weight", beta="bias")
        return {**_named(own, mean="running_mean", variance="running_var"), **_needed(layer, scale)}
    if isinstance(layer, LayerNormalization):
        return _needed(layer, _named(own, gamma="weight", beta="bias"))
    if isinstance(layer, PReLU):
        return {"slope": own["weight"]}
    if isinstance(layer, MultiHeadAttention):
        return _heads(layer.query_kernel.shape[1], own)
    return {name: array for name, array in own.items() if "." not in name}


def _named(own: Mapping[str, Array], **names: str) -> dict[str, Array]:
    return {name: own[key] for name, key in names.items() if key in own}


def _needed(layer: BatchNormalization | LayerNormalization, found: Mapping[str, Array]) -> dict[str, Array]:
    """Leave out the ones and zeros that stand in for an array that the layer does not have."""
    nothing = {"gamma": 1.0, "beta": 0.0}
    return {
        name: array
        for name, array in found.items()
        if getattr(layer, name) is not None or not (array == nothing[name]).all()
    }


def _heads(heads: int, own: Mapping[str, Array]) -> dict[str, Array]:
    """Cut in_proj_weight into q, k, v by its rows; of another form are three weights, and v's rows differ."""
    parts = {"query": "q", "key": "k", "value": "v"}
    if "in_proj_weight" in own:
        rows = dict(zip(parts, np.split(own["in_proj_weight"], 3), strict=True))
    else:
        rows = {part: own[f"{letter}_proj_weight"] for part, letter in parts.items()}
    found: dict[str, Array] = {f"{part}_kernel": row.T.reshape(row.shape[1], heads, -1) for part, row in rows.items()}
    out = own["out_proj.weight"].T
    found["output_kernel"] = out.reshape(heads, -1, out.shape[1])
    if "in_proj_bias" in own:
        first, second = len(rows["query"]), len(rows["query"]) + len(rows["key"])
        biases = np.split(own["in_proj_bias"], [first, second])
        found |= {f"{part}_bias": bias.reshape(heads, -1) for part, bias in zip(parts, biases, strict=True)}
        found["output_bias"] = own["out_proj.bias"]
    return found
