"""Write LSTM layers as a Keras file: a whole model, or its weights only, as Keras 2 or Keras 3 writes them.

The suffix decides: ``.keras`` is the zip, ``.weights.h5`` the weights by object path, ``.h5`` and ``.hdf5``
the legacy HDF5.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats.keras.writer.arrays import LSTM, CellClass
from lstmconv.formats.keras.writer.dialect import Dialect, choose
from lstmconv.formats.keras.writer.layer_graph import feeders_of, graph_of
from lstmconv.formats.keras.writer.naming import renamed
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.record import encode
from lstmconv.formats.tensors import dtype_of
from lstmconv.model import Checkpoint, LSTMLayer
from lstmconv.model.notes import LayerNote

__all__ = ["losses", "write", "write_as"]

_Kind: TypeAlias = Literal["native", "saveable", "legacy model", "legacy weights"]


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    """Write all layers as one Functional model; a layer that another feeds is called on its output.

    Raises:
        UnsupportedModelError: The version of Keras that is asked for, or every version, cannot hold a layer; or the
            layer's activations are unknown.
        UsageError: Keras does not take the names, the bias mode or the suffix.
    """
    if options.whole:
        from lstmconv.formats.keras.writer.whole.write import write_whole

        write_whole(checkpoint, path, options)
        return [path]
    if options.bias_mode not in (None, "single-input"):
        raise UsageError(f"Keras stores one bias, the sum of both; bias mode {options.bias_mode!r} is for two")
    kind = _kind(path, options)
    dialect = choose(checkpoint.layers, options.keras_version)
    for layer in checkpoint.layers:
        reason = _file_refusal(layer, str(dtype_of(layer, options)), kind, dialect)
        if reason is not None:
            raise UnsupportedModelError(reason, about=layer.name)
    _refuse_unequal_feeders(checkpoint, kind, dialect)
    write_as(checkpoint, path, options, LSTM, kind, dialect)
    return [path]


def write_as(
    checkpoint: Checkpoint, path: Path, options: WriteOptions, cell: CellClass, kind: _Kind, dialect: Dialect
) -> None:
    """Write all layers as one class of cell, into one kind of file."""
    from lstmconv.formats.keras.writer.config import describe_graph
    from lstmconv.formats.keras.writer.files import write_legacy, write_native, write_saveable

    named, named_options = renamed(checkpoint, options, dialect)
    graph, record = graph_of(named, options, cell, dialect), encode(named, named_options)
    if kind == "saveable":
        write_saveable(path, graph, dialect, record)
    elif kind == "legacy weights":
        write_legacy(path, None, graph, dialect, record)
    else:
        native = kind == "native"
        config = describe_graph(graph, dialect, native=native, whole=False)
        (write_native if native else write_legacy)(path, config, graph, dialect, record)


def _kind(path: Path, options: WriteOptions) -> _Kind:
    name = path.name.lower()
    if name.endswith(".keras"):
        if options.weights_only:
            raise UsageError(
                "a .keras file is a whole model; weights alone go into .weights.h5 or .h5", about=path.name
            )
        return "native"
    if name.endswith(".weights.h5"):
        return "saveable"
    if name.endswith((".h5", ".hdf5")):
        return "legacy weights" if options.weights_only else "legacy model"
    raise UsageError("expected .keras, .weights.h5, .h5 or .hdf5 for a Keras file", about=path.name)


def _file_refusal(layer: LSTMLayer, dtype: str, kind: _Kind, dialect: Dialect) -> str | None:
    """Say why Keras itself cannot load a layer from a kind of file, or ``None``."""
    legacy = kind in ("legacy model", "legacy weights")
    # Only .keras and .weights.h5 of Keras 3 say that two opaque bytes are a bfloat16 (saving_lib.py H5Entry).
    if dtype == "bfloat16" and dialect.major == 2:
        return "Keras 2 cannot load bfloat16 weights; pass --dtype float32"
    if dtype == "bfloat16" and legacy:
        return "Keras cannot load bfloat16 weights from a legacy .h5; write .keras or .weights.h5"
    # hdf5_format.py convert_nested_bidirectional gives the forward half two of the five arrays.
    biased = [bool({"bias_ih", "bias_hh"} & set(half.arrays)) for half in layer.directions]
    if legacy and dialect.major == 2 and biased == [True, False]:
        return "Keras 2 cannot load a bias in the forward direction only from a legacy .h5; write .keras"
    return None


def _refuse_unequal_feeders(checkpoint: Checkpoint, kind: _Kind, dialect: Dialect) -> None:
    """Refuse what Keras 3 rebuilds wrongly: Bidirectional.compute_output_shape takes twice the forward half's units."""
    if kind == "native" or dialect.major != 3:
        return
    for above, below in feeders_of(checkpoint).items():
        layer = checkpoint[below]
        if layer.merge_mode == "concat" and len({half.hidden_size for half in layer.directions}) > 1:
            raise UnsupportedModelError(
                f"{below}: Keras 3 cannot build a model in which directions of unequal size feed another layer "
                f"({above}), except from .keras; write .keras, or pass --keras-version 2"
            )


def losses(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
    """Say in whole sentences which facts of the source the written file lacks."""
    if options.whole and checkpoint.model is not None:
        from lstmconv.formats.keras.writer.whole import write as whole

        yield from whole.losses(checkpoint.model, options)
        return
    if _kind(path, options) in ("saveable", "legacy weights"):
        yield (
            "a weights-only file does not say its layers' activations and options to Keras; only lstmconv's record in "
            "it does"
        )
        return
    for layer in checkpoint.layers:
        yield from (LayerNote(layer.name, text) for text in _model_losses(layer))


def _model_losses(layer: LSTMLayer) -> Iterator[str]:
    if layer.stateful:
        yield "is stateful; the written layer is not, because Keras needs a fixed batch size for that"
    if layer.return_sequences is None:
        yield "the source does not say return_sequences; the written layer returns every step"
