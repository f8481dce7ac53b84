"""PyTorch modules that compute what a Keras LSTM computes, also where ``torch.nn.LSTM`` cannot.

:class:`LSTM` has ``nn.LSTM``'s constructor, parameter names, inputs and outputs, and adds Keras'
activations, ``go_backwards`` and merge modes. :class:`KerasLSTM` has a Keras layer's inputs and
outputs. This module imports torch; nothing else in lstmconv does so on import.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    from lstmconv.errors import MissingDependencyError

    raise MissingDependencyError(
        "lstmconv.torch needs torch. Install it with: pip install 'lstmconv[torch]'"
    ) from error

from lstmconv.activations import SIGMOID, TANH, Activation, parse_activation
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats import ReadOptions, WriteOptions
from lstmconv.formats.provenance import describe_activation, described_activation
from lstmconv.formats.torch.parameters import read_parameters
from lstmconv.formats.torch.state_dict import tensors
from lstmconv.model import Checkpoint, LSTMDirection, LSTMLayer, Provenance, float_type

__all__ = ["LSTM", "KerasLSTM", "from_layer", "read_module"]

_Function: TypeAlias = Callable[..., Tensor]
_F = nn.functional


def _relu(x: Tensor, negative_slope: float, max_value: float, threshold: float) -> Tensor:
    below = negative_slope * (x - threshold)
    out = torch.where(x > threshold, x, below if negative_slope else torch.zeros_like(x))
    return out.clamp(max=max_value)


def _sparsemax(x: Tensor) -> Tensor:
    ordered = x.sort(dim=-1, descending=True).values
    cumulated = ordered.cumsum(dim=-1)
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    support = ordered - (cumulated - 1) / rank > 0
    total = torch.where(support, cumulated, torch.zeros_like(cumulated)).sum(dim=-1, keepdim=True)
    tau = (total - 1) / support.sum(dim=-1, keepdim=True)  # Keras' formula: see lstmconv.activations.
    return (x - tau).clamp(min=0)


_FUNCTIONS: Mapping[str, _Function] = {
    "linear": lambda x: x,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "tanh": torch.tanh,
    "relu": _relu,
    "elu": lambda x, alpha: _F.elu(x, alpha),
    "celu": lambda x, alpha: _F.celu(x, alpha),
    "selu": _F.selu,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "softsign": _F.softsign,
    "exponential": torch.exp,
    "silu": _F.silu,
    "gelu": lambda x, approximate: _F.gelu(x, approximate="tanh" if approximate else "none"),
    "mish": _F.mish,
    "hard_silu": _F.hardswish,
    "hard_tanh": _F.hardtanh,
    "log_sigmoid": _F.logsigmoid,
    "softmax": lambda x: x.softmax(dim=-1),
    "log_softmax": lambda x: x.log_softmax(dim=-1),
    "sparsemax": _sparsemax,
    "sparse_plus": lambda x: torch.where(x <= -1, torch.zeros_like(x), torch.where(x < 1, 0.25 * (x + 1) ** 2, x)),
    "sparse_sigmoid": lambda x: (0.5 * (x + 1)).clamp(0, 1),
    "squareplus": lambda x, b: 0.5 * (x + (x * x + b).sqrt()),
    "soft_shrink": lambda x, threshold: _F.softshrink(x, threshold),
    "hard_shrink": lambda x, threshold: _F.hardshrink(x, threshold),
    "tanh_shrink": _F.tanhshrink,
}
"""The activations of lstmconv.activations in torch, one for one."""


def _apply(activation: Activation, x: Tensor) -> Tensor:
    return _FUNCTIONS[activation.name](x, **dict(activation.parameters))


def _activation(value: str | Activation | Mapping[str, Any]) -> Activation:
    """Return an activation given by name, as data, or as what an ``_extra_state`` holds."""
    if isinstance(value, Activation):
        return value
    made = parse_activation(value, None) if isinstance(value, str) else described_activation(value)
    if made is None:
        raise UnsupportedModelError("the _extra_state names no activation")
    return made


def _pair(value: Any, directions: int) -> tuple[Activation, ...]:
    """Return one activation a direction."""
    each = value if isinstance(value, (list, tuple)) else [value] * directions
    if len(each) != directions:
        raise UsageError(f"{len(each)} activations for {directions} directions")
    return tuple(map(_activation, each))


def _steps(
    x: Tensor,
    weights: Sequence[Tensor],
    h: Tensor,
    c: Tensor,
    recurrent_activation: Activation,
    activation: Activation,
    mask: Tensor | None = None,
    zero_output: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one direction over ``x (time, batch, input)`` in the order given; the equations of model.py."""
    weight_ih, weight_hh, *biases = weights
    projected = _F.linear(x, weight_ih, biases[0] if biases else None)
    bias_hh = biases[1] if biases else None
    output = torch.zeros_like(h)
    outputs: list[Tensor] = []
    for step in range(x.shape[0]):
        z = projected[step] + _F.linear(h, weight_hh, bias_hh)
        i, f, g, o = z.chunk(4, dim=-1)
        new_c = _apply(recurrent_activation, f) * c + _apply(recurrent_activation, i) * _apply(activation, g)
        new_h = _apply(recurrent_activation, o) * _apply(activation, new_c)
        if mask is None:
            h, c, output = new_h, new_c, new_h
            outputs.append(output)
            continue
        valid = mask[step].unsqueeze(-1)
        output = torch.where(valid, new_h, output)
        h, c = torch.where(valid, new_h, h), torch.where(valid, new_c, c)
        outputs.append(torch.where(valid, output, torch.zeros_like(output)) if zero_output else output)
    sequence = torch.stack(outputs) if outputs else x.new_zeros((0, *h.shape))
    return sequence, h, c


class LSTM(nn.LSTM):
    """``torch.nn.LSTM`` with any Keras activation, ``go_backwards`` and merge modes.

    With tanh and sigmoid, forwards, it runs ``nn.LSTM``'s own kernels; otherwise a loop over steps.
    What differs from ``nn.LSTM`` travels in the state dict as ``_extra_state``, which a plain
    ``nn.LSTM`` refuses in strict loading, and which is left out where nothing differs.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype:
            As ``torch.nn.LSTM``.
        activation: For the candidate and the output: a Keras name, or an
            :class:`~lstmconv.activations.Activation`; a pair for two directions. ``hard_sigmoid``
            must be named ``hard_sigmoid_keras2`` (0.2x+0.5) or ``hard_sigmoid_keras3`` (x/6+0.5).
        recurrent_activation: For the gates i, f and o, likewise.
        go_backwards: Steps run from the last to the first, and outputs come in that order, as Keras
            returns them; for two directions both are turned round.
        merge_mode: How the directions' outputs are joined: ``concat``, ``sum``, ``mul``, ``ave``.

    Raises:
        UnsupportedModelError: An activation that Keras does not ship.
        UsageError: ``proj_size``, which Keras' LSTM has not, or an unknown merge mode.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        go_backwards: bool = False,
        merge_mode: str = "concat",
    ) -> None:
        if proj_size:
            raise UsageError("proj_size is not part of a Keras LSTM; use torch.nn.LSTM")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype
        )
        self._set(activation, recurrent_activation, go_backwards, merge_mode)

    def _set(self, activation: Any, recurrent_activation: Any, go_backwards: bool, merge_mode: str) -> None:
        if merge_mode not in ("concat", "none", "sum", "mul", "ave"):
            raise UsageError(f"merge_mode is {merge_mode!r}, expected concat, sum, mul or ave")
        directions = 2 if self.bidirectional else 1
        self.activation = _pair(activation, directions)
        self.recurrent_activation = _pair(recurrent_activation, directions)
        self.go_backwards = bool(go_backwards)
        self.merge_mode = merge_mode

    @property
    def computes_as_nn_lstm(self) -> bool:
        """Whether a plain ``nn.LSTM`` with these parameters computes the same."""
        plain = set(self.activation) == {TANH} and set(self.recurrent_activation) == {SIGMOID}
        return plain and not self.go_backwards and (not self.bidirectional or self.merge_mode in ("concat", "none"))

    def get_extra_state(self) -> Tensor:
        """Return what ``nn.LSTM`` does not compute, as the bytes of a JSON object."""
        described = {
            "activation": [describe_activation(each) for each in self.activation],
            "recurrent_activation": [describe_activation(each) for each in self.recurrent_activation],
            "go_backwards": self.go_backwards,
            "merge_mode": self.merge_mode,
        }
        return torch.tensor(list(json.dumps(described).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what :meth:`get_extra_state` returned, here or in a converted file."""
        found = json.loads(bytes(state.cpu().tolist()))
        self._set(found["activation"], found["recurrent_activation"], found["go_backwards"], found["merge_mode"])

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.computes_as_nn_lstm:
            destination.pop(f"{prefix}_extra_state", None)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Load; a state dict without ``_extra_state`` is one of ``nn.LSTM``."""
        key = f"{prefix}_extra_state"
        if key in state_dict:
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        self._set("tanh", "sigmoid", False, "concat")
        super()._load_from_state_dict({**state_dict, key: self.get_extra_state()}, prefix, *args)

    def forward(  # type: ignore[override]  # nn.LSTM's is overloaded for packed sequences
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Compute as ``nn.LSTM`` does: ``output, (h_n, c_n)``.

        Args:
            input: ``(time, batch, input)``, or ``(batch, time, input)`` with ``batch_first``.
            hx: ``(h_0, c_0)``, each ``(num_layers * directions, batch, hidden)``.
        """
        if self.computes_as_nn_lstm:
            return super().forward(input, hx)
        if not isinstance(input, Tensor) or input.dim() != 3:
            raise UsageError("this LSTM is not nn.LSTM's and takes a tensor (time, batch, input), no packed sequence")
        x = input.transpose(0, 1) if self.batch_first else input
        directions = 2 if self.bidirectional else 1
        if hx is None:
            zeros = x.new_zeros((self.num_layers * directions, x.shape[1], self.hidden_size))
            hx = (zeros, zeros)
        finals: list[tuple[Tensor, Tensor]] = []
        for layer in range(self.num_layers):
            halves: list[Tensor] = []
            for direction in range(directions):
                index = layer * directions + direction
                sequence, h, c = self._direction(x, layer, direction, hx[0][index], hx[1][index])
                halves.append(sequence)
                finals.append((h, c))
            x = halves[0] if directions == 1 else _merge(self.merge_mode, halves[0], halves[1])
            if self.dropout and self.training and layer < self.num_layers - 1:
                x = _F.dropout(x, self.dropout)
        output = x.transpose(0, 1) if self.batch_first else x
        return output, (torch.stack([h for h, _ in finals]), torch.stack([c for _, c in finals]))

    def _direction(self, x: Tensor, layer: int, direction: int, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        suffix = f"_l{layer}{'_reverse' if direction else ''}"
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
        weights = [getattr(self, name + suffix) for name in names]
        backwards = self.go_backwards != (direction == 1)
        sequence, h, c = _steps(
            x.flip(0) if backwards else x,
            weights,
            h,
            c,
            self.recurrent_activation[direction],
            self.activation[direction],
        )
        return (sequence.flip(0) if direction == 1 else sequence), h, c


def _merge(mode: str, a: Tensor, b: Tensor) -> Tensor:
    if mode in ("concat", "none"):
        return torch.cat([a, b], dim=-1)
    if mode == "mul":
        return a * b
    return (a + b) / 2 if mode == "ave" else a + b


class KerasLSTM(nn.Module):
    """A Keras LSTM layer as a torch module: the same inputs and outputs, whatever its options.

    Attributes:
        forward_layer: An :class:`LSTM` of one direction; ``backward_layer`` likewise, or ``None``.
    """

    def __init__(self, layer: LSTMLayer) -> None:
        """Copy a layer's weights.

        Raises:
            UnsupportedModelError: Its activations are unknown.
        """
        super().__init__()
        self.layer_name = layer.name
        self.merge_mode = layer.merge_mode
        self.return_sequences = layer.return_sequences is not False
        self.return_state = layer.return_state
        self.zero_output_for_mask = layer.zero_output_for_mask
        self.time_major = layer.time_major
        self.go_backwards = [direction.go_backwards for direction in layer.directions]
        self.forward_layer = _one_direction(layer, layer.forward)
        self.backward_layer = None if layer.backward is None else _one_direction(layer, layer.backward)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        initial_state: Sequence[Tensor] | None = None,
    ) -> Any:
        """Return what the Keras layer returns.

        Args:
            x: ``(batch, time, input)``, or ``(time, batch, input)`` for a time_major layer.
            mask: ``(batch, time)``, true where a step counts.
            initial_state: ``[h, c]``, or ``[h, c, h, c]`` for a Bidirectional layer; a stateful layer's
                state is the caller's to pass on (set ``return_state``).

        Returns:
            One tensor, or a list where Keras returns several.
        """
        steps = x if self.time_major else x.transpose(0, 1)
        valid = None if mask is None else (mask if self.time_major else mask.transpose(0, 1)).bool()
        halves = [self.forward_layer] if self.backward_layer is None else [self.forward_layer, self.backward_layer]
        returned: list[Tensor] = []
        states: list[Tensor] = []
        for index, (half, backwards) in enumerate(zip(halves, self.go_backwards, strict=True)):
            zeros = steps.new_zeros((steps.shape[1], half.hidden_size))
            h, c = (zeros, zeros) if initial_state is None else initial_state[2 * index : 2 * index + 2]
            sequence, h, c = self._half(half, steps, valid, h, c, backwards)
            states += [h, c]
            if not self.return_sequences:
                returned.append(sequence[-1])
                continue
            sequence = sequence.flip(0) if index else sequence
            returned.append(sequence if self.time_major else sequence.transpose(0, 1))
        if len(returned) == 2 and self.merge_mode != "none":
            returned = [_merge(self.merge_mode, returned[0], returned[1])]
        outputs = returned + (states if self.return_state else [])
        return outputs[0] if len(outputs) == 1 else outputs

    def _half(
        self, half: LSTM, steps: Tensor, mask: Tensor | None, h: Tensor, c: Tensor, backwards: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = steps.flip(0) if backwards else steps
        valid = mask.flip(0) if mask is not None and backwards else mask
        if valid is None and half.computes_as_nn_lstm:
            sequence, (h_n, c_n) = half(x, (h.unsqueeze(0), c.unsqueeze(0)))
            return sequence, h_n[0], c_n[0]
        names = ["weight_ih_l0", "weight_hh_l0", *(["bias_ih_l0", "bias_hh_l0"] if half.bias else [])]
        weights = [getattr(half, name) for name in names]
        return _steps(
            x, weights, h, c, half.recurrent_activation[0], half.activation[0], valid, self.zero_output_for_mask
        )


def _one_direction(layer: LSTMLayer, direction: LSTMDirection) -> LSTM:
    """Build a forward LSTM that holds one direction's weights; the caller turns time round."""
    if direction.activation is None or direction.recurrent_activation is None:
        raise UnsupportedModelError(
            f"{layer.name}: its activations are unknown; load it with config= or recurrent_activation="
        )
    alone = LSTMLayer(layer.name, direction)
    listed = tensors(Checkpoint((alone,), Provenance("", "", "")), WriteOptions(prefix=False))
    state = {entry.name: _tensor(entry.materialise()) for entry in listed if not entry.name.endswith("_extra_state")}
    module = LSTM(
        direction.input_size,
        direction.hidden_size,
        bias="bias_ih_l0" in state,
        dtype=state["weight_ih_l0"].dtype,
        activation=direction.activation,
        recurrent_activation=direction.recurrent_activation,
    )
    for name, tensor in state.items():
        getattr(module, name).data.copy_(tensor)
    return module


def _tensor(array: Any) -> Tensor:
    """Return an array as a tensor; torch.from_numpy does not know ml_dtypes' bfloat16."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def read_module(module: nn.Module, name: str | None) -> Checkpoint:
    """Return the LSTMs of a module; see :func:`lstmconv.from_torch`.

    Raises:
        UnsupportedModelError: No LSTM in it that converts.
    """
    prefix = "" if name is None else f"{name}."
    arrays: dict[str, Any] = {}
    for key, value in module.state_dict().items():
        if isinstance(value, Tensor) and not value.is_quantized and value.layout == torch.strided:
            arrays[prefix + key] = _array(value.detach().cpu())
        elif not isinstance(value, Tensor) or value.is_quantized:
            arrays[prefix + key] = np.empty(0, np.int8)
    return read_parameters(arrays, Provenance(type(module).__name__, "", "torch module"), None, ReadOptions())


def _array(tensor: Tensor) -> Any:
    """Return a tensor as an array of the same memory; NumPy's bfloat16 is ml_dtypes'."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(float_type("bfloat16"))
    return tensor.numpy()


def from_layer(layer: LSTMLayer) -> KerasLSTM:
    """Return a torch module that computes what the Keras layer computes."""
    return KerasLSTM(layer)
