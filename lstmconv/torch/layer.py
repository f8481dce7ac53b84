"""One Keras LSTM layer as a torch module, with the layer's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.torch.state_dict import stack_tensors
from lstmconv.model import LSTMDirection, LSTMLayer, Stack
from lstmconv.torch.arrays import tensor_of
from lstmconv.torch.modules import LSTM
from lstmconv.torch.running import Halves, RecurrentOptions, run_recurrent

__all__ = ["KerasLSTM", "from_layer"]


class KerasLSTM(Halves):
    """A Keras LSTM layer as a torch module: the same inputs and outputs, whatever its options.

    Attributes:
        forward_layer: An :class:`~lstmconv.torch.LSTM` of one direction; ``backward_layer`` likewise, or ``None``.
        options: What the layer does around its steps.
        return_state: Whether it returns its final states, too.
    """

    def __init__(self, layer: LSTMLayer) -> None:
        """Copy a layer's weights.

        Raises:
            UnsupportedModelError: Its activations are unknown.
        """
        super().__init__(*(_one_direction(layer, half) for half in layer.directions))
        self.options = RecurrentOptions.of(layer)
        self.return_state = layer.return_state

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
        returned, states = run_recurrent(self, self.options, x, initial_state or (), mask)
        outputs = [*returned, *(states if self.return_state else ())]
        return outputs[0] if len(outputs) == 1 else outputs


def _one_direction(layer: LSTMLayer, direction: LSTMDirection) -> LSTM:
    """Return a module that runs forwards with one direction's weights; the caller turns time round."""
    if direction.activation is None or direction.recurrent_activation is None:
        raise UnsupportedModelError(
            f"{layer.name}: its activations are unknown; load it with config= or recurrent_activation="
        )
    stack = Stack(layer.name, (LSTMLayer(layer.name, replace(direction, go_backwards=False)),))
    state = {entry.name: tensor_of(entry.materialise()) for entry in stack_tensors(stack, "", WriteOptions())}
    module = LSTM(direction.input_size, direction.hidden_size, bias=stack.has_bias, batch_first=True, device="meta")
    module.load_state_dict(state, assign=True)
    return module


def from_layer(layer: LSTMLayer) -> KerasLSTM:
    """Return a torch module that computes what the Keras layer computes."""
    return KerasLSTM(layer)
