"""A whole model read back from PyTorch's named tensors: the record has the graph, the state dict the arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.model_record import Place, rebuild_model
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.torch.state_dict import prefix_of
from lstmconv.formats.torch.whole import model_tensors
from lstmconv.layouts import TORCH
from lstmconv.layouts.kinds import rows_of
from lstmconv.model import Array, Checkpoint, Gates, Model, Provenance
from lstmconv.model.chains import chains_of, lstm_layers, stacks_of

__all__ = ["read_model", "read_whole"]


def read_whole(described: object, state: Mapping[str, Array], provenance: Provenance) -> Checkpoint:
    """Return what a whole file holds: the model, and its LSTM layers, of which there may be none.

    Raises:
        UnreadableFileError: As :func:`read_model`.
    """
    model = read_model(described, state, provenance.source)
    chains = chains_of(model)
    return Checkpoint(
        layers=lstm_layers(model),
        provenance=provenance,
        edges=chains.edges,
        branching=chains.branching,
        joined={stack.name: tuple(layer.name for layer in stack.layers) for stack in stacks_of(model)},
        model=model,
    )


def read_model(described: object, state: Mapping[str, Array], source: str) -> Model:
    """Return the model that a whole file holds.

    Args:
        described: The model in the file's record.
        state: The file's tensors by name.
        source: The file's name.

    Raises:
        UnreadableFileError: The record is damaged, a tensor is missing or has another shape, or no layer has it.
    """
    model = rebuild_model(described, partial(_found, state, source), source, TORCH.name)
    if not model.unknown:
        known = {tensor.name for tensor in model_tensors(model, WriteOptions())}
        left = next((key for key in state if key not in known and key.rpartition(".")[2] not in _NO_WEIGHTS), None)
        if left is not None:
            raise UnreadableFileError(f"holds '{left}', which no layer of the model in its record has", about=source)
    return model


_NO_WEIGHTS = frozenset({"_extra_state", "num_batches_tracked"})
"""What PyTorch's modules keep beside their weights."""


def _found(state: Mapping[str, Array], source: str, place: Place) -> Array | Gates | None:
    """Return one array in the model's axes; ``None`` if the file does not hold it.

    Raises:
        UnreadableFileError: Its tensor has another shape.
    """
    finder = _FINDERS.get(place.kind, _plain)
    try:
        return finder(state, place)
    except Exception as error:  # einops has errors of its own; a shape that does not fit is the file's fault.
        raise UnreadableFileError(
            f"'{place.layer}' {place.attribute} does not have the shape that the record states ({error})", about=source
        ) from error


def _plain(state: Mapping[str, Array], place: Place) -> Array | None:
    row = rows_of(place.kind).get(place.attribute)
    stored = None if row is None else state.get(prefix_of(place.layer) + row.torch.name)
    if row is None or stored is None or place.shape is None:
        return None
    return row.view(stored, "torch")


def _recurrent_key(state: Mapping[str, Array], place: Place) -> str | None:
    """Return the name of a direction's tensor: of the whole stack, of a layer of it, or of a half alone."""
    *above, half, array = place.attribute.split(".")
    number = above[1] if above else "0"
    prefix = prefix_of(place.layer)
    reverse = "_reverse" if half == "backward" else ""
    alone = [prefix, f"{prefix}{number}."] if above else [prefix]
    names = [f"{prefix}{array}_l{number}{reverse}", f"{alone[-1]}{array}_l0{reverse}"]
    names.append(f"{alone[-1]}{half}_layer.{array}_l0")
    return next((name for name in names if name in state), None)


def _lstm_array(state: Mapping[str, Array], place: Place) -> Gates | None:
    key = _recurrent_key(state, place)
    if key is None:
        return None
    array = place.attribute.rpartition(".")[2]
    pattern = {"weight_ih": TORCH.input_matrix, "weight_hh": TORCH.recurrent_matrix}.get(array, TORCH.one_bias)
    if place.shape is None and not state[key].any():
        return None  # Zeros stand where there was no bias.
    return pattern.view(state[key])


def _rnn_array(cell: str, state: Mapping[str, Array], place: Place) -> Array | None:
    key = _recurrent_key(state, place)
    if key is None or (place.shape is None and not state[key].any()):
        return None
    array = place.attribute.rpartition(".")[2]
    return rows_of(cell)[array].view(state[key], "torch")


def _head_array(state: Mapping[str, Array], place: Place) -> Array | None:
    if place.shape is None:
        return None
    row, prefix = rows_of(place.kind)[place.attribute], prefix_of(place.layer)
    part, _, array = place.attribute.partition("_")
    if part == "output":
        sizes = {"head": place.shape[0]} if array == "kernel" else {}
        stored = state.get(prefix + row.torch.name)
        return None if stored is None else row.view(stored, "torch", **sizes)
    head = place.shape[0] if array == "bias" else place.shape[1]
    key = f"in_proj_{'bias' if array == 'bias' else 'weight'}"
    alone = state.get(prefix + row.torch.name) if array == "kernel" else None
    if alone is not None:
        return row.view(alone, "torch", head=head)
    stored = state.get(prefix + key)
    if stored is None:
        return None
    # Query and key have equally many rows; what is left is the value's.
    own = head * place.shape[-1]
    start = {"query": 0, "key": own, "value": len(stored) - own}[part]
    return row.view(stored[start : start + own], "torch", head=head)


_FINDERS: Mapping[str, Callable[[Mapping[str, Array], Place], Array | Gates | None]] = {
    "LSTMDirection": _lstm_array,
    "GRUDirection": partial(_rnn_array, "GRU"),
    "SimpleRNNDirection": partial(_rnn_array, "SimpleRNN"),
    "MultiHeadAttention": _head_array,
}
