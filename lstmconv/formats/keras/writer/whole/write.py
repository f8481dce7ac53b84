"""Write a whole model as a Keras file, or say why that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmconv.arrays.hard_sigmoid import rescaled_layers, with_hard_sigmoid_of
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats.keras.writer.config import describe_graph
from lstmconv.formats.keras.writer.dialect import KERAS_2, KERAS_3, Dialect, by_version
from lstmconv.formats.keras.writer.nodes import Graph
from lstmconv.formats.keras.writer.whole.building import Builder
from lstmconv.formats.keras.writer.whole.handlers import HANDLERS
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.record import encode
from lstmconv.formats.tensors import dtype_of_model
from lstmconv.model import Checkpoint, Model, Stack, TimeDistributed
from lstmconv.model.chains import lstm_layers
from lstmconv.model.kinds import Identity
from lstmconv.model.notes import LayerNote
from lstmconv.model.renaming import renamed

__all__ = ["Planned", "losses", "obstacle_of_model", "planned", "write_whole"]

_ILLEGAL = re.compile(r"[^A-Za-z0-9_\->]")
"""tensorflow/python/framework/ops.py _VALID_SCOPE_NAME_REGEX; Keras 3 refuses ``/``, its PyTorch backend ``.``."""
_TAKEN = ("top_level_model_weights",)
"""Keras' own group in a legacy file."""


class Planned(NamedTuple):
    """A model as one Keras holds it.

    Attributes:
        names: The names that Keras takes, by the model's.
        scaled: The layers whose weights carry another hard_sigmoid.
    """

    graph: Graph
    dialect: Dialect
    dtype: np.dtype[Any]
    names: dict[str, str]
    scaled: list[str]


def obstacle_of_model(model: Model, options: WriteOptions) -> str | None:
    """Say why no Keras file holds a model whole, or ``None``."""
    try:
        planned(model, options)
    except (UnsupportedModelError, UsageError) as error:
        return str(error)
    return None


def planned(model: Model, options: WriteOptions) -> Planned:
    """Lay a model out for the Keras that the user asks for, or for 3 where it holds it, or else for 2.

    Raises:
        UnsupportedModelError: It, or any, cannot hold a layer.
        UsageError: There is no such Keras, or it has no place for what is asked.
    """
    if options.weights_only:
        raise UsageError("weights alone are no whole model")
    if options.states:
        raise UsageError("a Keras model keeps its states itself; --states is for ONNX")
    if options.bias_mode not in (None, "single-input"):
        raise UsageError(f"Keras stores one bias, the sum of both; bias mode {options.bias_mode!r} is for two")
    if options.keras_version is not None:
        return _laid_out(model, by_version(options.keras_version), options)
    try:
        return _laid_out(model, KERAS_3, options)
    except UnsupportedModelError as for_3:
        try:
            return _laid_out(model, KERAS_2, options)
        except UnsupportedModelError as for_2:
            same = str(for_2) == str(for_3)
            text = str(for_3) if same else f"for Keras 3: {for_3}; for Keras 2: {for_2}"
            raise UnsupportedModelError(text) from for_2


def _laid_out(model: Model, dialect: Dialect, options: WriteOptions) -> Planned:
    if model.unknown:
        first = model.unknown[0]
        raise UnsupportedModelError(first.described)
    dtype = np.dtype(dtype_of_model(model, options))
    if dtype.name == "bfloat16" and dialect.major == 2:
        raise UnsupportedModelError("Keras 2 cannot load bfloat16 weights; pass --dtype float32")
    names, inputs = _names(model)
    carried = with_hard_sigmoid_of(renamed(model, names), dialect.major)
    named = replace(carried, name=_ILLEGAL.sub("_", model.name) or dialect.model_name)
    scaled = rescaled_layers(model, dialect.major)
    return Planned(Builder(named, dialect, dtype, inputs, HANDLERS).graph(), dialect, dtype, names, scaled)


def _names(model: Model) -> tuple[dict[str, str], dict[str, str]]:
    """Return names that both Kerases take, none twice, for all layers and for all inputs; ``/`` becomes ``_``."""
    taken = set(_TAKEN)

    def legal(old: str) -> str:
        plain = _ILLEGAL.sub("_", old)
        plain = plain if re.match(r"[A-Za-z0-9]", plain) else f"layer{plain}"
        new, count = plain, 0
        while new in taken:
            count += 1
            new = f"{plain}_{count}"
        taken.add(new)
        return new

    inputs = {entry.name: legal(entry.name) for entry in model.inputs}
    return {name: legal(name) for name in dict.fromkeys(_layer_names(model))}, inputs


def _layer_names(model: Model) -> Iterator[str]:
    for layer in model.layers:
        yield layer.name
        if isinstance(layer, Stack):
            yield from (one.name for one in layer.layers)
        elif isinstance(layer, TimeDistributed):
            yield from _layer_names(layer.model)


def write_whole(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> None:
    """Write a checkpoint's model.

    Raises:
        UnsupportedModelError: It has none, or no Keras can hold it.
        UsageError: The options or the suffix are none that Keras takes.
    """
    from lstmconv.formats.keras.writer.files import write_legacy, write_native

    model = checkpoint.model
    if model is None:
        raise UnsupportedModelError(f"{checkpoint.provenance.source} does not contain its model")
    name = path.name.lower()
    if name.endswith(".weights.h5") or not name.endswith((".keras", ".h5", ".hdf5")):
        raise UsageError(
            "expected .keras, .h5 or .hdf5 for a whole model; .weights.h5 holds weights alone", about=path.name
        )
    plan = planned(model, options)
    if plan.dtype.name == "bfloat16" and not name.endswith(".keras"):
        raise UnsupportedModelError("Keras cannot load bfloat16 weights from a legacy .h5; write .keras")
    record = _record(checkpoint, model, plan, options)
    native = name.endswith(".keras")
    config = describe_graph(plan.graph, plan.dialect, native=native)
    (write_native if native else write_legacy)(path, config, plan.graph, plan.dialect, record)


def _record(checkpoint: Checkpoint, model: Model, plan: Planned, options: WriteOptions) -> str:
    """Return the record: the source's model under the names in the file."""
    moved = renamed(model, plan.names)
    sources = options.sources or {}
    joined = {
        plan.names.get(stack, stack): tuple(plan.names.get(name, name) for name in inside)
        for stack, inside in checkpoint.joined.items()
    }
    written = replace(checkpoint, model=moved, layers=lstm_layers(moved), joined=joined, edges=None, branching=())
    origins = {new: sources.get(old, old) for old, new in plan.names.items()}
    return encode(written, replace(options, sources=origins, keras_version=plan.dialect.major))


def losses(model: Model, options: WriteOptions) -> Iterator[str]:
    """Say, in whole sentences, what the source says and the written file does not."""
    plan = planned(model, options)
    for name in plan.scaled:
        other = 5 - plan.dialect.major
        factor = "1.2" if plan.dialect.major == 3 else "1 / 1.2"
        yield LayerNote(
            name,
            f"hard_sigmoid is another function in Keras {plan.dialect.major} than in Keras {other}; the "
            f"weights of its gates are multiplied by {factor}, each rounded by half an ulp",
        )
    if any(isinstance(layer, Identity) and layer.class_name != "linear" for layer in model.layers):
        yield "layers that act in training only (Dropout and its like) are written with the rate 0"
