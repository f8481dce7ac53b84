"""nn.LSTM, nn.GRU and nn.RNN with Keras' activations, ``go_backwards``, merge modes and masks.

:class:`LSTM`, :class:`GRU` and :class:`RNN` have the constructors, parameter names, inputs and outputs of torch.nn's.
What differs travels in the state dict as ``_extra_state``, which torch.nn's own modules refuse in strict loading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from lstmconv.errors import UsageError
from lstmconv.torch.definitions.recurrent import gru_step, gru_step_reset_before, lstm_step, rnn_step
from lstmconv.torch.recurrent import OneState, Recurrent

__all__ = ["GRU", "LSTM", "RNN"]


class LSTM(Recurrent, nn.LSTM):
    """``torch.nn.LSTM`` with any Keras activation, ``go_backwards`` and merge modes.

    With tanh and sigmoid, forwards, it runs ``nn.LSTM``'s own kernels; otherwise a loop over steps.
    What differs from ``nn.LSTM`` travels in the state dict as ``_extra_state``, which a plain
    ``nn.LSTM`` refuses in strict loading, and which is left out where nothing differs.

    Args:
        arguments, options: As ``torch.nn.LSTM``: input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, device, dtype.
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

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.proj_size:
            raise UsageError("proj_size is not part of a Keras LSTM; use torch.nn.LSTM")

    def forward(  # type: ignore[override]  # nn.LSTM's is overloaded for packed sequences
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Compute as ``nn.LSTM`` does: ``output, (h_n, c_n)``.

        Args:
            input: ``(time, batch, input)``, or ``(batch, time, input)`` with ``batch_first``.
            hx: ``(h_0, c_0)``, each ``(num_layers * directions, batch, hidden)``.
        """
        if self.computes_as_torch:
            return nn.LSTM.forward(self, input, hx)
        output, (h, c) = self._loop(input, hx)
        return output, (h, c)

    @property
    def _step(self) -> Callable[..., list[Tensor]]:
        return lstm_step


class GRU(OneState, nn.GRU):  # type: ignore[misc]  # nn.GRU's forward is overloaded for packed sequences
    """``torch.nn.GRU`` with Keras' options, as :class:`LSTM`; and ``reset_after=False``, which PyTorch has not.

    Args:
        arguments, options: As ``torch.nn.GRU``; activation, recurrent_activation, go_backwards and merge_mode as
            :class:`LSTM`.
        reset_after: The reset gate acts on the product with the recurrent matrix, as PyTorch has it; else before it.
    """

    def __init__(self, *arguments: Any, reset_after: bool = True, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reset_after = bool(reset_after)

    def _described(self) -> dict[str, Any]:
        return {**super()._described(), "reset_after": self.reset_after}

    def _take(self, found: Mapping[str, Any]) -> None:
        super()._take(found)
        self.reset_after = bool(found["reset_after"])

    def _take_torch(self) -> None:
        super()._take_torch()
        self.reset_after = True

    @property
    def _step(self) -> Callable[..., list[Tensor]]:
        return gru_step if self.reset_after else gru_step_reset_before


class RNN(OneState, nn.RNN):  # type: ignore[misc]  # nn.RNN's forward is overloaded for packed sequences
    """``torch.nn.RNN`` with any Keras activation, ``go_backwards`` and merge modes, as :class:`LSTM`.

    Args:
        arguments: input_size, hidden_size and num_layers.
        options: As ``torch.nn.RNN``, without ``nonlinearity``; activation, go_backwards and merge_mode as
            :class:`LSTM`.

    Raises:
        UsageError: ``nonlinearity`` or ``recurrent_activation``, or more than three arguments without a name.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        if len(arguments) > 3 or not options.keys().isdisjoint(("nonlinearity", "recurrent_activation")):
            raise UsageError("an RNN has activation= alone, and takes what follows num_layers by name")
        super().__init__(*arguments, **options)

    @property
    def _step(self) -> Callable[..., list[Tensor]]:
        return rnn_step
