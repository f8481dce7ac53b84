"""One module's parameters as LSTM layers, from the input to the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

from lstmconv.activations import SIGMOID, TANH, Activation, described_activation
from lstmconv.errors import LstmconvError, UnreadableFileError, UnsupportedModelError
from lstmconv.formats.safety.limits import parse_json
from lstmconv.layouts import TORCH
from lstmconv.model import Array, LSTMDirection, LSTMLayer, MergeMode

__all__ = ["IncompleteError", "ModuleParameters", "layers_of"]


class IncompleteError(UnsupportedModelError):
    """Some of a module's arrays are there and some are not."""


@dataclass
class ModuleParameters:
    """One module's tensors while they are collected: ``(array, layer, way)`` by its prefix."""

    prefix: str
    arrays: dict[tuple[str, int | None, str], Array] = field(default_factory=dict)


def layers_of(module: ModuleParameters, name: str, extra: Array | None, source: str) -> list[LSTMLayer]:
    """Build a module's layers, from the input to the output."""
    numbers = sorted({layer for _, layer, _ in module.arrays}, key=lambda layer: -1 if layer is None else layer)
    if numbers not in ([None], list(range(len(numbers)))):
        held = ", ".join(str(number) for number in numbers)
        raise UnreadableFileError(f"'{name}' has the layers {held}, expected 0 to {len(numbers) - 1}", about=source)
    ways = sorted({way for _, _, way in module.arrays})
    if "" not in ways:
        raise UnreadableFileError(f"'{name}' has a _reverse direction only, expected the forward one too", about=source)
    _refuse_some_biases(module, (source, f"'{name}'"))
    computed = _computed(extra, len(ways))
    made: list[LSTMLayer] = []
    for number in numbers:
        halves = [
            replace(
                _direction(module, number, way, (source, f"'{name}'")),
                activation=computed.activation[index],
                recurrent_activation=computed.recurrent_activation[index],
                go_backwards=computed.go_backwards != (index == 1),
            )
            for index, way in enumerate(ways)
        ]
        made.append(
            LSTMLayer(
                name=name if len(numbers) == 1 else f"{name}_l{number}",
                forward=halves[0],
                backward=halves[1] if len(halves) == 2 else None,
                merge_mode=computed.merge_mode,
                class_name="nn.LSTMCell" if number is None else "nn.LSTM",
            )
        )
    for number, layer in enumerate(made[1:], 1):
        if layer.input_size != made[number - 1].output_size:
            raise UnreadableFileError(
                f"'{name}' takes {layer.input_size} features in layer {number}, "
                f"expected {made[number - 1].output_size}, what layer {number - 1} returns",
                about=source,
            )
    return made


def _refuse_some_biases(module: ModuleParameters, where: tuple[str, str]) -> None:
    """Refuse biases in some layers or directions alone: ``bias`` is one option of all (torch/nn/modules/rnn.py)."""
    places = {(layer, way) for _, layer, way in module.arrays}
    biased = {(layer, way) for name, layer, way in module.arrays if name in ("bias_ih", "bias_hh")}
    for layer, way in sorted(places - biased, key=str) if biased else ():
        ending = ("" if layer is None else f"_l{layer}") + way
        raise UnreadableFileError(
            f"{where[1]} has biases, and lacks bias_ih{ending} and bias_hh{ending}: a truncated or filtered state dict",
            about=where[0],
        )


def _direction(module: ModuleParameters, layer: int | None, way: str, where: tuple[str, str]) -> LSTMDirection:
    """View one direction's four arrays, checked for shape and type before anything is viewed."""
    ending = ("" if layer is None else f"_l{layer}") + way
    arrays = {name: module.arrays.get((name, layer, way)) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    weight_ih, weight_hh = arrays["weight_ih"], arrays["weight_hh"]
    if weight_ih is None or weight_hh is None:
        missing = "weight_ih" if weight_ih is None else "weight_hh"
        raise UnreadableFileError(
            f"{where[1]} lacks {missing}{ending}: a truncated or filtered state dict", about=where[0]
        )
    biases = [name for name in ("bias_ih", "bias_hh") if arrays[name] is not None]
    if len(biases) == 1:
        raise IncompleteError(f"it has {biases[0]}{ending} alone, and an nn.LSTM has both biases or none")
    hidden = weight_hh.shape[-1] if weight_hh.ndim == 2 else 0
    features = weight_ih.shape[-1] if weight_ih.ndim == 2 else 0
    expected = {
        "weight_ih": (4 * hidden, features),
        "weight_hh": (4 * hidden, hidden),
        "bias_ih": (4 * hidden,),
        "bias_hh": (4 * hidden,),
    }
    for name, array in arrays.items():
        if array is None:
            continue
        if array.dtype.kind not in "fV":
            raise UnsupportedModelError(
                f"{name}{ending} is {array.dtype}, expected floating-point weights (quantised?)"
            )
        if array.shape != expected[name] or not hidden or not features:
            raise UnreadableFileError(
                f"{name}{ending} is {array.shape}, expected {expected[name]} for {hidden} units", about=where
            )
    bias_ih, bias_hh = (
        None if bias is None else TORCH.one_bias.view(bias, hidden) for bias in (arrays["bias_ih"], arrays["bias_hh"])
    )
    return LSTMDirection(
        TORCH.input_matrix.view(weight_ih, hidden),
        TORCH.recurrent_matrix.view(weight_hh, hidden),
        bias_ih,
        bias_hh,
        layout=TORCH.name,
    )


@dataclass(frozen=True)
class _ExtraState:
    """The JSON object that :class:`lstmconv.torch.LSTM` keeps as its ``_extra_state``, one activation a direction."""

    activation: tuple[Mapping[str, str | float | None] | None, ...]
    recurrent_activation: tuple[Mapping[str, str | float | None] | None, ...]
    go_backwards: bool
    merge_mode: MergeMode


class _Computed(NamedTuple):
    """What a module computes, with one activation a direction."""

    activation: Sequence[Activation | None]
    recurrent_activation: Sequence[Activation | None]
    go_backwards: bool = False
    merge_mode: MergeMode = "concat"


def _computed(extra: Array | None, directions: int) -> _Computed:
    """Return what a module computes: what ``nn.LSTM`` does, or what its ``_extra_state`` says.

    Raises:
        UnsupportedModelError: Another class's ``_extra_state``: the module is no plain ``nn.LSTM``.
    """
    if extra is None:
        return _Computed([TANH] * directions, [SIGMOID] * directions)
    import msgspec

    try:
        said = parse_json(extra.tobytes(), "_extra_state")
        state = msgspec.convert(said, _ExtraState)
        made = _Computed(
            list(map(described_activation, state.activation)),
            list(map(described_activation, state.recurrent_activation)),
            state.go_backwards,
            state.merge_mode,
        )
    except (msgspec.ValidationError, LstmconvError) as error:
        raise UnsupportedModelError("its _extra_state is not lstmconv's: it is no plain nn.LSTM") from error
    if len(said) > len(fields(_ExtraState)):
        raise UnsupportedModelError("its _extra_state says more than this version knows")
    if {len(made.activation), len(made.recurrent_activation)} != {directions}:
        raise UnsupportedModelError(f"its _extra_state is not for {directions} directions")
    return made
