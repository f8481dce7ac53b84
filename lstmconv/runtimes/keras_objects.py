"""The classes and functions that a Keras file may name to be run: Keras' own, which compute what they say, no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lstmconv.runtimes import NotRunError

__all__ = ["entries", "refuse_others"]

_HARMLESS = {
    *("Functional", "Model", "Sequential", "InputLayer", "LSTM", "CuDNNLSTM", "Bidirectional"),
    *("SpatialDropout2D", "SpatialDropout3D", "Identity"),
    *("Cast", "Rsqrt", "TFOpLambda", "SlicingOpLambda"),
    *("Zeros", "Ones", "Constant", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling"),
    *("IdentityInitializer", "Orthogonal", "OrthogonalInitializer"),
    *("GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform"),
    *("L1", "L2", "L1L2", "OrthogonalRegularizer", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"),
    *("DTypePolicy", "Policy", "__keras_tensor__", "__slice__", "__numpy__"),
}
"""Classes beside those of the layers that lstmconv computes."""
_OPERATIONS = ("keras.src.ops.numpy", "keras.src.ops.nn")
"""Modules of Keras' functions, none of which takes another function."""
_FUNCTIONS = {
    *(f"math.{name}" for name in ("add", "subtract", "multiply", "truediv", "floordiv", "pow", "maximum", "minimum")),
    *(f"math.{name}" for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")),
    *(f"math.{name}" for name in ("logical_and", "logical_or", "logical_not", "negative", "abs", "square", "sqrt")),
    *(f"math.{name}" for name in ("rsqrt", "exp", "log", "sign", "reduce_sum", "reduce_mean", "reduce_max")),
    *(f"math.{name}" for name in ("reduce_min", "reduce_all", "reduce_any", "tanh", "sigmoid")),
    *("linalg.matmul", "cast", "concat", "stack", "transpose", "reshape", "pad", "reverse", "__operators__.getitem"),
    *("nn.relu", "nn.softmax", "nn.log_softmax", "nn.gelu"),
}
"""The functions of TensorFlow that a layer of Keras 2 may call: no file is read or written by them."""


def entries(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every serialised object of a config, at any depth."""
    if isinstance(value, Mapping):
        if "class_name" in value:
            yield value
        for inner in value.values():
            yield from entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from entries(inner)


def refuse_others(config: Mapping[str, Any] | None) -> None:
    """Refuse to load what could run code of the file's own, or another's module.

    Raises:
        NotRunError: A class or a function is not among the known ones.
    """
    model = {key: value for key, value in (config or {}).items() if key != "compile_config"}  # Never compiled.
    others = [named for entry in entries(model) if (named := _other(entry)) is not None]
    if others:
        raise NotRunError(f"it holds other layers ({', '.join(sorted(set(others)))}): not run")


def _other(entry: Mapping[str, Any]) -> str | None:
    """Return what an object is called, if it is not known."""
    from lstmconv.formats.keras.reader.kinds.table import is_computed

    name, module = str(entry["class_name"]), str(entry.get("module") or "keras")
    own = entry.get("registered_name") in (None, entry["class_name"])
    known = module in _OPERATIONS or name in _HARMLESS or is_computed(name)
    if not known or module.split(".")[0] not in ("keras", "tf_keras") or not own:
        return name
    function = entry.get("config", {}).get("function") if name.endswith("OpLambda") else None
    return None if function is None or function in _FUNCTIONS else f"tf.{function}"
