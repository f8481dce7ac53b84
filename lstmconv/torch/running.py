"""Run a recurrent module as its Keras layer runs: states, any mask, merge modes, the order of the outputs.

A mask of any form is exact without a loop where torch.nn's kernels compute the steps: each sequence is compacted to
its unmasked steps, packed, run, and its outputs are put back (DESIGN 5). Sources: keras/src/layers/rnn/{rnn,
bidirectional}.py and backend/*/rnn.py (3.15), tf_keras/src/layers/rnn (2.21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lstmconv.errors import UsageError
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
    """Each half's outputs ``(batch, time, hidden)`` in the order of its steps, and the final states in Keras'."""

    sequences: list[Tensor]
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
        parts = [ran.sequences[0], *(sequence.flip(1) for sequence in ran.sequences[1:])]
        parts = [part.transpose(0, 1) for part in parts] if options.time_major else parts
    else:
        parts = [sequence[:, -1] for sequence in ran.sequences]
    if len(parts) == 2 and options.merge_mode != "none":
        parts = [merge(options.merge_mode, parts[0], parts[1])]
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
        return _Ran([run.sequences[0] for run in runs], [state for run in runs for state in run.states])
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
        # The loop turns time round as the module itself says; a half alone is turned here.
        turn = backwards[0] != module.go_backwards
        steps, counted = x.transpose(0, 1), None if mask is None else mask.transpose(0, 1)
        if turn:
            steps, counted = steps.flip(0), None if counted is None else counted.flip(0)
        halves, finals = module.run_steps(steps, initial, counted, zero_output)
        sequences = [half.transpose(0, 1) for half in halves]
    else:
        if backwards[0]:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        output, finals = _by_kernels(module, x, initial, mask)
        sequences = _put_back(module, output, mask, zero_output)
    return _Ran(sequences, [final[row] for row in range(rows) for final in finals])


def _kernels(module: nn.RNNBase, x: Any, states: list[Tensor]) -> tuple[Any, list[Tensor]]:
    """Run torch.nn's own forward, also of a subclass."""
    if isinstance(module, nn.LSTM):
        output, (h, c) = nn.LSTM.forward(module, x, (states[0], states[1]))
        return output, [h, c]
    base: Any = nn.GRU if isinstance(module, nn.GRU) else nn.RNN
    output, h = base.forward(module, x, states[0])
    return output, [h]


def _by_kernels(
    module: nn.RNNBase, x: Tensor, states: list[Tensor], mask: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """Run the unmasked steps of each sequence; of the outputs they come first."""
    if mask is None:
        return _kernels(module, x, states)
    counts = mask.sum(dim=1)
    order = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)
    compact = x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
    # A packed sequence has at least one step: what a sequence without any computes is put aside below.
    packed = nn.utils.rnn.pack_padded_sequence(
        compact, counts.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
    )
    output, finals = _kernels(module, packed, states)
    padded, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
    some = (counts > 0).unsqueeze(-1)
    return padded, [torch.where(some, after, before) for after, before in zip(finals, states, strict=True)]


def _put_back(module: nn.RNNBase, output: Tensor, mask: Tensor | None, zero_output: bool) -> list[Tensor]:
    """Return each half's outputs step by step, in the order in which it ran."""
    halves = [output] if not module.bidirectional else list(output.chunk(2, dim=-1))
    if mask is None:
        return [halves[0], *(half.flip(1) for half in halves[1:])]
    before = mask.cumsum(dim=1)
    counts = before[:, -1:]
    # A masked step repeats the output before it, in the order of running: the backward half's comes after it in time.
    places = [before - 1, torch.where(mask, before - 1, before)]
    out: list[Tensor] = []
    for half, place in zip(halves, places, strict=False):
        there = mask if zero_output else (place >= 0) & (place < counts)
        index = place.clamp(0, half.shape[1] - 1).unsqueeze(-1).expand(-1, -1, half.shape[-1])
        out.append(torch.where(there.unsqueeze(-1), half.gather(1, index), half.new_zeros(())))
    return [out[0], *(half.flip(1) for half in out[1:])]
