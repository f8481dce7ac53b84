"""A recurrent layer of a model in torch: the modules that the state dict has for it, and how they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lstmconv.activations import SIGMOID, TANH
from lstmconv.formats.torch.state_dict import extra_state, obstacle
from lstmconv.formats.torch.whole import halves_fit, recurrent_extra_state
from lstmconv.model import GRUDirection, LSTMLayer, RecurrentLayer, SimpleRNNDirection, Stack
from lstmconv.torch.modules import GRU, LSTM, RNN
from lstmconv.torch.running import Halves, RecurrentOptions, run_recurrent

__all__ = ["RunRecurrent", "build_recurrent"]


class RunRecurrent:
    """Runs a recurrent layer: its outputs, and its final states.

    Attributes:
        time_major: Whether its input is ``(time, batch, features)``.
    """

    def __init__(self, layers: Sequence[LSTMLayer | RecurrentLayer], *, apart: bool) -> None:
        """Take the options of the layers.

        Args:
            layers: One, or those of a stack.
            apart: Each has a module of its own.
        """
        own = [replace(layer, return_sequences=True) for layer in layers[:-1]]
        self.options = [RecurrentOptions.of(layer) for layer in (*own, layers[-1])]
        self.apart = apart
        self.time_major = layers[0].time_major
        self.counts = [(2 if isinstance(layer, LSTMLayer) else 1) * len(layer.directions) for layer in layers]

    def __call__(
        self, module: Any, x: Tensor, states: Sequence[Tensor], mask: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        if not self.apart:
            # One module runs all layers; what the last one returns is the stack's.
            return run_recurrent(module, self.options[-1], x, states, mask)
        finals: list[Tensor] = []
        outputs: tuple[Tensor, ...] = (x,)
        start = 0
        for number, (options, count) in enumerate(zip(self.options, self.counts, strict=True)):
            own = states[start : start + count]
            start += count
            outputs, final = run_recurrent(module[number], options, outputs[0], own, mask)
            finals += final
            if mask is not None and options.backwards == (True,):
                # The layers above take the steps in the order in which this one ran.
                mask = mask.flip(0 if options.time_major else 1)
        return outputs, tuple(finals)


def build_recurrent(layer: LSTMLayer | RecurrentLayer | Stack) -> tuple[nn.Module, RunRecurrent]:
    """Return the modules of a layer, on the device ``meta``, and what runs them."""
    with torch.device("meta"):
        if isinstance(layer, RecurrentLayer):
            return _recurrent_module(layer), RunRecurrent([layer], apart=False)
        if isinstance(layer, LSTMLayer):
            return _lstm_module(Stack(layer.name, (layer,))), RunRecurrent([layer], apart=False)
        apart = obstacle(layer) is not None
        if not apart:
            return _lstm_module(layer), RunRecurrent(layer.layers, apart=False)
        modules = [_lstm_module(Stack(own.name, (own,))) for own in layer.layers]
        return nn.ModuleList(modules), RunRecurrent(layer.layers, apart=True)


def _lstm_module(stack: Stack) -> nn.LSTM | Halves:
    """Return what holds a stack: nn.LSTM, :class:`LSTM` where that computes something else, or two halves."""
    if obstacle(stack) is not None:
        alone = [LSTMLayer("", replace(half, go_backwards=False)) for half in stack.first.directions]
        return Halves(*(_lstm_module(Stack("", (half,))) for half in alone))  # type: ignore[arg-type]  # no obstacle
    first = stack.first
    options: dict[str, Any] = {
        "num_layers": len(stack.layers),
        "bias": stack.has_bias,
        "batch_first": True,
        "bidirectional": first.bidirectional,
    }
    if extra_state(stack) is None:
        return nn.LSTM(first.input_size, first.hidden_size, **options)
    return LSTM(
        first.input_size,
        first.hidden_size,
        activation=[half.activation for half in first.directions],
        recurrent_activation=[half.recurrent_activation for half in first.directions],
        go_backwards=first.go_backwards,
        merge_mode=first.merge_mode if first.bidirectional else "concat",
        **options,
    )


def _recurrent_module(layer: RecurrentLayer) -> nn.RNNBase | Halves:
    if not halves_fit(layer):
        alone = [RecurrentLayer("", replace(half, go_backwards=False)) for half in layer.directions]
        return Halves(*map(_recurrent_module, alone))  # type: ignore[arg-type]  # one half fits
    first = layer.forward
    options: dict[str, Any] = {
        "bias": any(half.bias_ih is not None for half in layer.directions),
        "batch_first": True,
        "bidirectional": layer.backward is not None,
    }
    if recurrent_extra_state(layer) is None:
        if isinstance(first, GRUDirection):
            return nn.GRU(first.input_size, first.hidden_size, **options)
        nonlinearity = "tanh" if first.activation == TANH else "relu"
        return nn.RNN(first.input_size, first.hidden_size, nonlinearity=nonlinearity, **options)
    options |= {
        "activation": [half.activation for half in layer.directions],
        "go_backwards": first.go_backwards,
        "merge_mode": layer.merge_mode if layer.backward is not None else "concat",
    }
    if isinstance(first, SimpleRNNDirection):
        return RNN(first.input_size, first.hidden_size, **options)
    gates = [half.recurrent_activation if isinstance(half, GRUDirection) else SIGMOID for half in layer.directions]
    return GRU(
        first.input_size, first.hidden_size, recurrent_activation=gates, reset_after=first.reset_after, **options
    )
