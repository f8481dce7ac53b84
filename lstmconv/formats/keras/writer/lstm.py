"""What an LSTM layer becomes in Keras, and what it shares with other recurrent layers.

Sources: get_config of LSTM, CuDNNLSTM, RNN and Bidirectional in tf_keras 2.21 and keras 3.0.5 to 3.15. Only keys that
every version of a generation takes are written: Keras refuses those that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lstmconv.activations import TANH, Activation
from lstmconv.formats.keras.writer.arrays import CUDNN_LSTM, WrittenHalf
from lstmconv.formats.keras.writer.dialect import Dialect, described
from lstmconv.formats.keras.writer.nodes import LAYERS, Part, Variable
from lstmconv.model import GRUDirection, LSTMDirection, LSTMLayer, RecurrentLayer, SimpleRNNDirection

__all__ = ["SIDES", "bidirectional_options", "lstm_part", "recurrent_options"]

SIDES = ("forward", "backward")
_Config = dict[str, Any]


def lstm_part(layer: LSTMLayer, halves: Sequence[WrittenHalf], dialect: Dialect, *, stateful: bool = False) -> Part:
    """Return an LSTM, a CuDNNLSTM, or a Bidirectional one; its options state its own dtype.

    Args:
        layer: The layer.
        halves: Its directions as they are written, forward first.
        dialect: The Keras that reads it.
        stateful: It keeps its states, which needs a fixed batch size.
    """
    variables: list[Variable] = []
    inner: dict[str, str] = {}
    for half in halves:
        owner = [f"{half.side}_layer"] if half.side else []
        scope = [half.name] if half.side else []
        if half.side:
            inner[owner[0]] = half.name
        if half.cell.cell:
            owner.append("cell")
            scope.append(half.cell.cell)
            inner["/".join(owner)] = half.cell.cell
        variables += [Variable("/".join(owner), "/".join(scope), name, make) for name, make in half.arrays.items()]
    options = [_options(layer, half, dialect, stateful=stateful) for half in halves]
    dtype, cell = str(halves[0].dtype), halves[0].cell
    class_name, own = cell.name, options[0]
    if layer.bidirectional:
        class_name = "Bidirectional"
        if dialect.major == 2:  # The layer that a Bidirectional was made from has places, too, and no variables.
            inner |= dict.fromkeys(("layer", "layer/cell") if cell.cell else ("layer",), "")
        own = bidirectional_options(layer.merge_mode, (cell.name, cell.inner), options, dtype, dialect)
    own = {"trainable": True, "dtype": dtype, **own}
    return Part(class_name, own, tuple(variables), shape_matters=True, inner=inner)


def bidirectional_options(
    merge_mode: str, names: tuple[str, str], halves: Sequence[Mapping[str, Any]], dtype: str, dialect: Dialect
) -> _Config:
    """Return the options of a Bidirectional.

    Args:
        merge_mode: ``none`` for both outputs.
        names: The class of its halves, and what Keras calls an unnamed layer of this class.
        halves: The options of both.
        dtype: Their dtype.
        dialect: The Keras that reads it.
    """
    class_name, inner = names
    options: _Config = {"merge_mode": None if merge_mode == "none" else merge_mode}
    for key, side, half in zip(("layer", "backward_layer"), SIDES, halves, strict=True):
        # Keras 2 puts forward_ and backward_ before the names itself.
        name = f"{side}_{inner}" if dialect.major == 3 else inner
        options[key] = _object(class_name, {"name": name, "trainable": True, "dtype": dtype, **half})
    if dialect.major == 2 and {**halves[0], "go_backwards": None} == {**halves[1], "go_backwards": None}:
        del options["backward_layer"]  # Keras 2 makes the second half itself where it can.
    return options


def recurrent_options(
    layer: LSTMLayer | RecurrentLayer,
    half: LSTMDirection | GRUDirection | SimpleRNNDirection,
    dialect: Dialect,
    dtype: str,
    *,
    stateful: bool,
) -> _Config:
    """Return the options that every recurrent layer of Keras has.

    Half precisions have no QR decomposition on a CPU, so no orthogonal matrix: Keras could not build the layer.
    """
    returns_sequences = layer.return_sequences is not False
    # A Bidirectional returns zeros for masked steps if it returns sequences, and Keras 3 notes that in its halves.
    zeros = layer.zero_output_for_mask if layer.backward is None else returns_sequences
    if dialect.major == 3:
        own: _Config = {"zero_output_for_mask": zeros, "seed": None}
    else:  # time_major is what makes Keras 3 refuse the file, whose hard_sigmoid is another.
        own = {"time_major": layer.time_major}
        own |= {"zero_output_for_mask": True} if zeros and layer.backward is None else {}
    glorot = _initializer("GlorotUniform", {"seed": None})
    orthogonal = _initializer(dialect.orthogonal, {"seed": None, "gain": 1.0})
    return {
        "return_sequences": returns_sequences,
        "return_state": layer.return_state,
        "go_backwards": half.go_backwards,
        "stateful": stateful,
        "unroll": False,
        "units": half.hidden_size,
        "kernel_initializer": glorot,
        "recurrent_initializer": glorot if dtype in ("float16", "bfloat16") else orthogonal,
        "bias_initializer": _initializer("Zeros", {}),
        "kernel_regularizer": None,
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "recurrent_constraint": None,
        "bias_constraint": None,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        **own,
    }


_NOT_OF_CUDNN = ("unroll", "zero_output_for_mask", "dropout", "recurrent_dropout")


def _options(layer: LSTMLayer, half: WrittenHalf, dialect: Dialect, *, stateful: bool) -> _Config:
    """Return the options of one LSTM or CuDNNLSTM."""
    direction, dtype = half.direction, str(half.dtype)
    options = recurrent_options(layer, direction, dialect, dtype, stateful=stateful) | {"unit_forget_bias": True}
    if half.cell is CUDNN_LSTM:
        return {key: value for key, value in options.items() if key not in _NOT_OF_CUDNN}
    options |= {
        "activation": _activation(direction.activation, dialect, dtype),
        "recurrent_activation": _activation(direction.recurrent_activation, dialect, dtype),
        "use_bias": half.use_bias,
    }
    return options | ({"implementation": 2} if dialect.major == 2 else {})


def _activation(activation: Activation | None, dialect: Dialect, dtype: str) -> Any:
    return described(TANH if activation is None else activation, dialect, dtype)


def _initializer(class_name: str, config: _Config) -> _Config:
    return _object(class_name, config, "keras.initializers")


def _object(class_name: str, config: _Config, module: str = LAYERS) -> _Config:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}
