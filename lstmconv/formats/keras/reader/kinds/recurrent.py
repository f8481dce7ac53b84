"""GRU and SimpleRNN, alone and inside Bidirectional.

Sources: keras/layers/recurrent.py and wrappers.py (1.2.2, 2.2.4), keras/layers/cudnn_recurrent.py (2.2.4),
tf_keras/src/layers/rnn (2.16), keras/src/layers/rnn (3.15).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast, get_args

import numpy as np

from lstmconv.activations import SIGMOID, TANH
from lstmconv.formats.keras.reader.kinds import masks
from lstmconv.formats.keras.reader.kinds.entry import CELL_CLASSES, REQUIRED, LayerEntry, NotUnderstoodError
from lstmconv.formats.keras.reader.kinds.options import read_options
from lstmconv.formats.keras.reader.kinds.row import Place, Row, Variable
from lstmconv.model import Array
from lstmconv.model.layers import MergeMode
from lstmconv.model.recurrent import GRUDirection, RecurrentLayer, SimpleRNNDirection

__all__ = ["ROWS"]

_Direction: TypeAlias = GRUDirection | SimpleRNNDirection

_KERAS_1 = {"output_dim": "units", "inner_activation": "recurrent_activation"}
_LAYER: Mapping[str, object] = {
    "units": REQUIRED, "return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False,
    "time_major": False, "zero_output_for_mask": False,
}  # fmt: skip
_IGNORED = frozenset({
    "dropout", "recurrent_dropout", "dropout_W", "dropout_U", "implementation", "unroll", "use_cudnn",
    "unit_forget_bias", "num_constants",
})  # fmt: skip


def _features(place: Place) -> int | None:
    if place.rank != 3:
        raise NotUnderstoodError(f"its input has {place.rank} axes, expected (batch, time, features)")
    return place.size(-1)


def _where(place: Place) -> str:
    return "" if place.entry.class_name == "CuDNNGRU" else "cell"


def _gru_variables(place: Place) -> tuple[Variable, ...]:
    units, features, where = place.whole("units"), _features(place), _where(place)
    if place.entry.config.get("consume_less", "gpu") != "gpu":  # Keras 1 stored gates separately, unless for a GPU.
        shapes = {"W": (features, units), "U": (units, units), "b": (units,)}
        return tuple(Variable(f"{kind}_{gate}", (shape,)) for gate in "zrh" for kind, shape in shapes.items())
    kernel = Variable("kernel", ((features, 3 * units),), where)
    recurrent = Variable("recurrent_kernel", ((units, 3 * units),), where)
    if not place.options["use_bias"]:
        return kernel, recurrent
    both = (6 * units,) if place.entry.class_name == "CuDNNGRU" else (2, 3 * units)
    return kernel, recurrent, Variable("bias", (both if place.options["reset_after"] else (3 * units,),), where)


def _gru(place: Place) -> GRUDirection:
    arrays, units = place.arrays, place.whole("units")
    if "W_z" in arrays:
        arrays = {
            name: np.concatenate([arrays[f"{kind}_{gate}"] for gate in "zrh"], axis=-1)
            for name, kind in (("kernel", "W"), ("recurrent_kernel", "U"), ("bias", "b"))
        }
    bias = arrays.get("bias")
    both = None if bias is None else bias.reshape(-1, 3, units)
    return GRUDirection(
        weight_ih=_gates(arrays["kernel"], units),
        weight_hh=_gates(arrays["recurrent_kernel"], units),
        bias_ih=None if both is None else both[0],
        bias_hh=both[1] if both is not None and place.options["reset_after"] else None,
        activation=place.activation(),
        recurrent_activation=place.activation("recurrent_activation"),
        reset_after=bool(place.options["reset_after"]),
        go_backwards=bool(place.options["go_backwards"]),
    )


def _gates(kernel: Array, units: int) -> Array:
    """View ``(input, 3 * units)`` as ``(3, units, input)``."""
    return kernel.reshape(-1, 3, units).transpose(1, 2, 0)


def _cudnn_gru(place: Place) -> GRUDirection:
    """Build a direction; each gate's block of columns has the row-major bytes of cuDNN's ``(units, input)`` matrix."""
    arrays, units = place.arrays, place.whole("units")
    both = arrays["bias"].reshape(2, 3, units)
    return GRUDirection(
        weight_ih=np.stack([block.reshape(units, -1) for block in np.split(arrays["kernel"], 3, axis=1)]),
        weight_hh=np.stack(np.split(arrays["recurrent_kernel"], 3, axis=1)),
        bias_ih=both[0],
        bias_hh=both[1],
        activation=TANH,
        recurrent_activation=SIGMOID,
        reset_after=True,
        go_backwards=bool(place.options["go_backwards"]),
    )


def _simple_variables(place: Place) -> tuple[Variable, ...]:
    units, where = place.whole("units"), _where(place)
    kernel = Variable("kernel", ((_features(place), units),), where)
    recurrent = Variable("recurrent_kernel", ((units, units),), where)
    bias = (Variable("bias", ((units,),), where),) if place.options["use_bias"] else ()
    return (kernel, recurrent, *bias)


def _simple(place: Place) -> SimpleRNNDirection:
    arrays = place.arrays
    return SimpleRNNDirection(
        weight_ih=arrays["kernel"].T,
        weight_hh=arrays["recurrent_kernel"].T,
        bias_ih=arrays.get("bias"),
        activation=place.activation(),
        go_backwards=bool(place.options["go_backwards"]),
    )


_DIRECTIONS: Mapping[str, Callable[[Place], _Direction]] = {"GRU": _gru, "CuDNNGRU": _cudnn_gru, "SimpleRNN": _simple}


def _layer(place: Place) -> tuple[RecurrentLayer]:
    options = place.options
    return (
        RecurrentLayer(
            place.name,
            _DIRECTIONS[place.entry.class_name](place),
            return_sequences=bool(options["return_sequences"]),
            return_state=bool(options["return_state"]),
            stateful=bool(options["stateful"]),
            zero_output_for_mask=bool(options["zero_output_for_mask"]),
            time_major=bool(options["time_major"]),
        ),
    )


_GRU = Row(
    names=("GRU",),
    options={
        **_LAYER,
        "activation": REQUIRED,
        "recurrent_activation": REQUIRED,
        "use_bias": True,
        "reset_after": False,
    },
    renamed=_KERAS_1,
    ignored=_IGNORED,
    variables=_gru_variables,
    build=_layer,
    masks=masks.recurrent,
    inputs=(1, 2**31),
)
_CUDNN_GRU = replace(
    _GRU,
    names=("CuDNNGRU",),
    options={**_LAYER, "use_bias": True, "reset_after": True},
    only={"reset_after": (True,)},
    masks=masks.cudnn,
)
_SIMPLE = replace(
    _GRU,
    names=("SimpleRNN",),
    options={**_LAYER, "activation": REQUIRED, "use_bias": True},
    variables=_simple_variables,
)
_BY_NAME = {name: row for row in (_GRU, _CUDNN_GRU, _SIMPLE) for name in row.names}


def _unwrapped(entry: Any) -> tuple[str, dict[str, Any]]:
    """Return the class and the config of a recurrent layer; ``RNN(GRUCell)`` is a GRU."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        raise NotUnderstoodError("the wrapped layer is not described")
    name, config = str(entry.get("class_name")), dict(entry["config"])
    cell = config.get("cell")
    if name == "RNN" and isinstance(cell, Mapping) and cell.get("class_name") in ("GRUCell", "SimpleRNNCell"):
        outer = {key: value for key, value in config.items() if key != "cell"}
        return CELL_CLASSES[cell["class_name"]], {**outer, **cell["config"]}
    return name, config


def _rnn_row(place: Place) -> tuple[Row, Place]:
    """Return the row and the place of the layer that ``RNN(cell)`` is equal to."""
    class_name, config = _unwrapped({"class_name": "RNN", "config": place.entry.config})
    if class_name not in _BY_NAME:
        raise NotUnderstoodError("only an RNN of one GRUCell or SimpleRNNCell is computed")
    entry = place.entry._replace(class_name=class_name, config=config)
    return _BY_NAME[class_name], replace(place, entry=entry, options=read_options(_BY_NAME[class_name], entry))


def _rnn_variables(place: Place) -> tuple[Variable, ...]:
    row, inner = _rnn_row(place)
    return row.variables(inner)


def _rnn(place: Place) -> tuple[RecurrentLayer]:
    return _layer(_rnn_row(place)[1])


def _halves(place: Place) -> dict[str, tuple[Row, Place]]:
    """Return both halves; without a ``backward_layer``, the second is the first with ``go_backwards`` inverted.

    Source: keras bidirectional.py __init__; Keras 2 inverts it also if the first half runs backwards.
    """
    forward, backward = place.options["layer"], place.options["backward_layer"]
    kinds = {_unwrapped(stated)[0] for stated in (forward, backward or forward)}
    if len(kinds) > 1:
        raise NotUnderstoodError(f"its directions are of two classes: {' and '.join(sorted(kinds))}")
    found: dict[str, tuple[Row, Place]] = {}
    for side, stated in (("forward", forward), ("backward", backward or forward)):
        class_name, config = _unwrapped(stated)
        if class_name not in _BY_NAME:
            raise NotUnderstoodError(f"Bidirectional({class_name}) is not computed")
        if side == "backward" and not backward:
            config["go_backwards"] = not config.get("go_backwards", False)
        entry = place.entry._replace(class_name=class_name, config=config)
        row = _BY_NAME[class_name]
        prefix = f"{side}/"
        own = {name.removeprefix(prefix): array for name, array in place.arrays.items() if name.startswith(prefix)}
        found[side] = row, replace(place, entry=entry, options=read_options(row, entry), arrays=own)
    return found


def _halves_variables(place: Place) -> tuple[Variable, ...]:
    return tuple(
        Variable(f"{side}/{variable.name}", variable.shapes, f"{side}_layer/{variable.where}".rstrip("/"))
        for side, (row, half) in _halves(place).items()
        for variable in row.variables(half)
    )


def _bidirectional(place: Place) -> tuple[RecurrentLayer]:
    forward, backward = (half for _, half in _halves(place).values())
    mode = "none" if place.options["merge_mode"] is None else place.options["merge_mode"]
    if mode not in get_args(MergeMode):
        raise NotUnderstoodError(f"merge_mode is {mode!r}")
    shared = ("return_sequences", "return_state", "stateful", "time_major")
    if any(bool(forward.options[name]) != bool(backward.options[name]) for name in shared):
        raise NotUnderstoodError(f"its directions differ in one of {', '.join(shared)}")
    (layer,) = _layer(forward)
    return (
        replace(
            layer,
            backward=_DIRECTIONS[backward.entry.class_name](backward),
            merge_mode=cast(MergeMode, mode),
            zero_output_for_mask=_zeros_for_mask(place.entry, forward),
        ),
    )


def _zeros_for_mask(entry: LayerEntry, forward: Place) -> bool:
    """Whether masked steps return zeros: in sequences of a Bidirectional, except in keras-team Keras (up to 2.3)."""
    keras_team = entry.version is not None and entry.version.is_keras_team
    return not keras_team and bool(forward.options["return_sequences"])


ROWS = (
    _GRU,
    _CUDNN_GRU,
    _SIMPLE,
    Row(
        names=("RNN",),
        options={**_LAYER, "units": None, "cell": REQUIRED},
        ignored=_IGNORED,
        variables=_rnn_variables,
        build=_rnn,
        masks=masks.recurrent,
        inputs=(1, 2**31),
    ),
    Row(
        names=("Bidirectional",),
        options={"layer": REQUIRED, "backward_layer": None, "merge_mode": "concat"},
        ignored=_IGNORED,
        variables=_halves_variables,
        build=_bidirectional,
        masks=masks.recurrent,
        inputs=(1, 2**31),
    ),
)
