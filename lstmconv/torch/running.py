"""Run a recurrent module as its Keras layer runs: states, any mask, merge modes, the order of the outputs.

A mask of any form is exact without a loop where torch.nn's kernels compute the steps: each sequence is compacted to
its unmasked steps, packed, run, and its outputs are put back (DESIGN 5). Sources: keras/src/layers/rnn/{rnn,
bidirectional}.py and backend/*/rnn.py (3.15), tf_keras/src/layers/rnn (2.21).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lstmconv.errors import UsageError
from lstmconv.model import LSTMLayer, RecurrentLayer
from lstmconv.torch.definitions.recurrent import masked
from lstmconv.torch.recurrent import Recurrent, merge

__all__ = ["Halves", "RecurrentOptions", "run_recurrent"]


class RecurrentOptions(NamedTuple):
    """What a Keras layer does around its steps.

    Attributes:
        name: The layer's, for errors.
        backwards: For each direction, whether it runs from the last step to the first.
        merge_mode, return_sequences, zero_output_for_mask, time_major: As
            :class:`~lstmconv.model.LSTMLayer`.
    """

    name: str
    backwards: tuple[bool, ...]
    merge_mode: str
    return_sequences: bool
    zero_output_for_mask: bool
    time_major: bool

    @classmethod
    def of(cls, layer: LSTMLayer | RecurrentLayer) -> RecurrentOptions:
        """Return a layer's options."""
        return cls(
            layer.name,
            tuple(half.go_backwards for half in layer.directions),
            layer.merge_mode,
            layer.return_sequences is not False,
            layer.zero_output_for_mask,
            layer.time_major,
        )


class Halves(nn.Module):
    """The directions of a Bidirectional layer as modules of their own, where one module cannot hold both.

    Attributes:
        forward_layer, backward_layer: As Keras names them; each runs forwards, its input is turned round for it.
    """

    def __init__(self, forward_layer: nn.RNNBase, backward_layer: nn.RNNBase | None = None) -> None:
        super().__init__()
        self.forward_layer = forward_layer
        self.backward_layer = backward_layer

    @property
    def directions(self) -> tuple[nn.RNNBase, ...]:
        """The modules that are there."""
        return (self.forward_layer,) if self.backward_layer is None else (self.forward_layer, self.backward_layer)


class _Ran(NamedTuple):
    """Each half's outputs ``(batch, time, hidden)`` in the forward half's order, and the final states in Keras'."""

    halves: list[Tensor]
    states: list[Tensor]


def run_recurrent(
    module: nn.RNNBase | Halves,
    options: RecurrentOptions,
    x: Tensor,
    states: Sequence[Tensor] = (),
    mask: Tensor | None = None,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the outputs of a Keras layer (without states), and its final states.

    Args:
        module: A module that is batch first, or the two halves.
        options: The layer's.
        x: ``(batch, time, input)``, or ``(time, batch, input)`` for a time_major layer.
        states: h (and c) of each direction of each layer, each ``(batch, hidden)``; zeros if not given.
        mask: ``(batch, time)`` bool, as ``x`` for a time_major layer.
    """
    if options.time_major:
        x, mask = x.transpose(0, 1), None if mask is None else mask.transpose(0, 1)
    if mask is not None and mask.shape != x.shape[:2]:
        raise UsageError(f"{options.name}: mask is {tuple(mask.shape)}, expected {tuple(x.shape[:2])}")
    whole = tuple(state.expand(len(x), -1) if len(state) == 1 else state for state in states)
    ran = _run(module, options.backwards, x, whole, None if mask is None else mask.bool(), options.zero_output_for_mask)
    if options.return_sequences:
        parts = [half.transpose(0, 1) for half in ran.halves] if options.time_major else ran.halves
    else:
        parts = [half[:, last] for half, last in zip(ran.halves, (-1, 0), strict=False)]
    if options.merge_mode != "none":
        parts = [merge(options.merge_mode, *parts)]
    return tuple(parts), tuple(ran.states)


def _run(
    module: nn.RNNBase | Halves,
    backwards: tuple[bool, ...],
    x: Tensor,
    states: tuple[Tensor, ...],
    mask: Tensor | None,
    zero_output: bool,
) -> _Ran:
    if isinstance(module, Halves):
        each = len(states) // len(module.directions)
        runs = [
            _run(half, (turned,), x, states[each * k : each * k + each], mask, zero_output)
            for k, (half, turned) in enumerate(zip(module.directions, backwards, strict=True))
        ]
        halves = [runs[0].halves[0], *(run.halves[0].flip(1) for run in runs[1:])]
        return _Ran(halves, [state for run in runs for state in run.states])
    own: Any = module.weight_ih_l0
    x = x.to(own.dtype)
    letters = 2 if isinstance(module, nn.LSTM) else 1
    rows = module.num_layers * (2 if module.bidirectional else 1)
    if states:
        initial = [torch.stack([state.to(own.dtype) for state in states[k::letters]]) for k in range(letters)]
    else:
        initial = [x.new_zeros((rows, len(x), module.hidden_size))] * letters
    by_kernels = not isinstance(module, Recurrent) or (
        module.steps_as_torch and (module.num_layers == 1 or module.computes_as_torch)
    )
    if not by_kernels and isinstance(module, Recurrent):
        if backwards[0] != module.go_backwards:  # The module turns time round by itself, but for a half alone.
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        halves, finals = module.run_steps(x, initial, mask, zero_output)
    else:
        if backwards[0]:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        output, finals = _by_kernels(module, x, initial, mask, zero_output)
        halves = list(output.chunk(2 if module.bidirectional else 1, dim=-1))
    return _Ran(halves, [final[row] for row in range(rows) for final in finals])


def _by_kernels(
    module: nn.RNNBase, x: Tensor, states: list[Tensor], mask: Tensor | None, zero_output: bool
) -> tuple[Tensor, list[Tensor]]:
    """Run torch.nn's own forward, also of a subclass; the outputs in the order of time, and the final states."""
    kernels: Any = next(base for base in (nn.LSTM, nn.GRU, nn.RNN) if isinstance(module, base))
    begun = tuple(states) if len(states) > 1 else states[0]
    run = partial(kernels.forward, module)
    output, after = run(x, begun) if mask is None else masked(run, x, mask, begun, zero_output)
    return output, list(after) if isinstance(after, tuple) else [after]
