"""What this package's LSTM, GRU and RNN share: Keras' options, and a loop over the steps.

The loop runs where torch.nn's own kernels compute something else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lstmconv.activations import SIGMOID, TANH, Activation, describe_activation, described_activation, parse_activation
from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.torch.activations import activate
from lstmconv.torch.definitions.recurrent import over_time

__all__ = ["OneState", "Recurrent", "merge"]

_F = nn.functional


def _activation(value: str | Activation | Mapping[str, Any]) -> Activation:
    """Return an activation from its name, from itself, or from its description in an ``_extra_state``."""
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


def merge(mode: str, a: Tensor, b: Tensor | None = None) -> Tensor:
    """Join the halves of a Bidirectional layer; one half stays as it is."""
    if b is None:
        return a
    if mode in ("concat", "none"):
        return torch.cat([a, b], dim=-1)
    if mode == "mul":
        return a * b
    return (a + b) / 2 if mode == "ave" else a + b


class Recurrent(nn.RNNBase):
    """What :class:`LSTM`, :class:`GRU` and :class:`RNN` share: the options, their travel, the loop over steps."""

    activation: tuple[Activation, ...]
    recurrent_activation: tuple[Activation, ...]
    go_backwards: bool
    merge_mode: str
    reset_after = True

    def __init__(
        self,
        *arguments: Any,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        go_backwards: bool = False,
        merge_mode: str = "concat",
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
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
    def steps_as_torch(self) -> bool:
        """Whether a step is what torch.nn's module computes, whatever the order of steps and the merge mode."""
        return set(self.activation) == {TANH} and set(self.recurrent_activation) == {SIGMOID} and self.reset_after

    @property
    def computes_as_torch(self) -> bool:
        """Whether torch.nn's module with these parameters computes the same."""
        joined = not self.bidirectional or self.merge_mode in ("concat", "none")
        return self.steps_as_torch and not self.go_backwards and joined

    def _described(self) -> dict[str, Any]:
        return {
            "activation": [describe_activation(each) for each in self.activation],
            "recurrent_activation": [describe_activation(each) for each in self.recurrent_activation],
            "go_backwards": self.go_backwards,
            "merge_mode": self.merge_mode,
        }

    def _take(self, found: Mapping[str, Any]) -> None:
        self._set(found["activation"], found["recurrent_activation"], found["go_backwards"], found["merge_mode"])

    def _take_torch(self) -> None:
        """Become what torch.nn's module of these parameters is."""
        self._set("tanh", "sigmoid", False, "concat")

    def get_extra_state(self) -> Tensor:
        """Return what torch.nn's module does not compute, as the bytes of a JSON object."""
        return torch.tensor(list(json.dumps(self._described()).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what :meth:`get_extra_state` returned, here or in a converted file."""
        self._take(json.loads(bytes(state.cpu().tolist())))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.computes_as_torch:
            destination.pop(f"{prefix}_extra_state", None)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Load; a state dict without ``_extra_state`` is one of torch.nn's module."""
        key = f"{prefix}_extra_state"
        if key in state_dict:
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        self._take_torch()
        super()._load_from_state_dict({**state_dict, key: self.get_extra_state()}, prefix, *args)

    def run_steps(
        self, x: Tensor, states: Sequence[Tensor], mask: Tensor | None = None, zero_output: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run step by step, under any mask.

        Args:
            x: ``(batch, time, input)``.
            states: h (and c), each ``(num_layers * directions, batch, hidden)``.
            mask: ``(batch, time)`` bool: a masked step leaves the states and repeats the last output.
            zero_output: A masked step's output is zeros.

        Returns:
            The last layer's halves ``(batch, time, hidden)``, last step first with ``go_backwards``; the final states.
        """
        finals: list[list[Tensor]] = []
        halves: list[Tensor] = []
        if mask is not None and self.go_backwards:
            mask = mask.flip(1)
        for layer in range(self.num_layers):
            if layer:
                x = _F.dropout(merge(self.merge_mode, *halves), self.dropout, self.training)
            x = x.flip(1) if self.go_backwards else x
            halves = []
            for direction, suffix in enumerate(("", "_reverse")[: 2 if self.bidirectional else 1]):
                end = f"_l{layer}{suffix}"
                step = partial(
                    self._step,
                    recurrent=partial(self._linear, "hh", end),
                    act=partial(activate, self.activation[direction]),
                    gate=partial(activate, self.recurrent_activation[direction]),
                )
                initial = [state[len(finals)] for state in states]
                added = self._linear("ih", end, x)
                half, final = over_time(step, added, initial, mask, zero_output, backwards=direction == 1)
                halves.append(half)
                finals.append(final)
        return halves, [torch.stack(each) for each in zip(*finals, strict=True)]

    def _linear(self, name: str, end: str, x: Tensor) -> Tensor:
        """Return the product with a matrix, with its bias."""
        return _F.linear(x, getattr(self, f"weight_{name}{end}"), getattr(self, f"bias_{name}{end}", None))

    @property
    def _step(self) -> Callable[..., list[Tensor]]:
        """What computes one step; see :func:`lstmconv.torch.definitions.recurrent.lstm_step`."""
        raise NotImplementedError

    def _loop(self, input: Any, states: Sequence[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """Compute as torch.nn's module does, with the loop over steps."""
        if not isinstance(input, Tensor) or input.dim() != 3:
            name = type(self).__name__
            raise UsageError(
                f"this {name} is not nn.{name}'s and takes a tensor (time, batch, input), no packed sequence"
            )
        x = input if self.batch_first else input.transpose(0, 1)
        if states is None:
            rows = self.num_layers * (2 if self.bidirectional else 1)
            zeros = x.new_zeros((rows, len(x), self.hidden_size))
            states = [zeros] * (2 if isinstance(self, nn.LSTM) else 1)
        halves, finals = self.run_steps(x, states)
        output = merge(self.merge_mode, *halves)
        return output if self.batch_first else output.transpose(0, 1), finals


class OneState(Recurrent):
    """A layer with one state."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute as ``nn.GRU`` and ``nn.RNN`` do: ``output, h_n``."""
        if self.computes_as_torch:
            computed: tuple[Tensor, Tensor] = super().forward(input, hx)
            return computed
        output, (h,) = self._loop(input, None if hx is None else (hx,))
        return output, h
