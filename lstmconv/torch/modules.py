"""nn.LSTM, nn.GRU and nn.RNN with Keras' activations, ``go_backwards``, merge modes and masks.

:class:`LSTM`, :class:`GRU` and :class:`RNN` have the constructors, parameter names, inputs and outputs of torch.nn's.
What differs travels in the state dict as ``_extra_state``, which torch.nn's own modules refuse in strict loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lstmconv.errors import UsageError
from lstmconv.torch.activations import activate
from lstmconv.torch.recurrent import OneState, Recurrent

__all__ = ["GRU", "LSTM", "RNN"]

_F = nn.functional


class LSTM(Recurrent, nn.LSTM):
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

    def _step(
        self, projected: Tensor, states: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None, direction: int
    ) -> tuple[Tensor, ...]:
        h, c = states
        act, rec = self.activation[direction], self.recurrent_activation[direction]
        i, f, g, o = (projected + _F.linear(h, weight, bias)).chunk(4, dim=-1)
        new_c = activate(rec, f) * c + activate(rec, i) * activate(act, g)
        return activate(rec, o) * activate(act, new_c), new_c


class GRU(OneState, nn.GRU):  # type: ignore[misc]  # nn.GRU's forward is overloaded for packed sequences
    """``torch.nn.GRU`` with Keras' options, as :class:`LSTM`; and ``reset_after=False``, which PyTorch has not.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype:
            As ``torch.nn.GRU``.
        activation, recurrent_activation, go_backwards, merge_mode: As :class:`LSTM`.
        reset_after: The reset gate acts on the product with the recurrent matrix, as PyTorch has it; else before it.
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
        device: Any = None,
        dtype: Any = None,
        *,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        reset_after: bool = True,
        go_backwards: bool = False,
        merge_mode: str = "concat",
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device=device, dtype=dtype
        )
        self.reset_after = bool(reset_after)
        self._set(activation, recurrent_activation, go_backwards, merge_mode)

    def _described(self) -> dict[str, Any]:
        return {**super()._described(), "reset_after": self.reset_after}

    def _take(self, found: Mapping[str, Any]) -> None:
        super()._take(found)
        self.reset_after = bool(found["reset_after"])

    def _take_torch(self) -> None:
        super()._take_torch()
        self.reset_after = True

    def _step(
        self, projected: Tensor, states: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None, direction: int
    ) -> tuple[Tensor, ...]:
        (h,) = states
        act, rec = self.activation[direction], self.recurrent_activation[direction]
        r_x, z_x, n_x = projected.chunk(3, dim=-1)
        if self.reset_after:
            r_h, z_h, n_h = _F.linear(h, weight, bias).chunk(3, dim=-1)
            r, z = activate(rec, r_x + r_h), activate(rec, z_x + z_h)
            n = activate(act, n_x + r * n_h)
            return (z * h + (1 - z) * n,)
        units = self.hidden_size
        gates = _F.linear(h, weight[: 2 * units], None if bias is None else bias[: 2 * units])
        r_h, z_h = gates.chunk(2, dim=-1)
        r, z = activate(rec, r_x + r_h), activate(rec, z_x + z_h)
        n = activate(act, n_x + _F.linear(r * h, weight[2 * units :], None if bias is None else bias[2 * units :]))
        return (z * h + (1 - z) * n,)


class RNN(OneState, nn.RNN):  # type: ignore[misc]  # nn.RNN's forward is overloaded for packed sequences
    """``torch.nn.RNN`` with any Keras activation, ``go_backwards`` and merge modes, as :class:`LSTM`.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype:
            As ``torch.nn.RNN``, without ``nonlinearity``.
        activation, go_backwards, merge_mode: As :class:`LSTM`.
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
        device: Any = None,
        dtype: Any = None,
        *,
        activation: Any = "tanh",
        go_backwards: bool = False,
        merge_mode: str = "concat",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            "tanh",
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        self._set(activation, "sigmoid", go_backwards, merge_mode)

    def _step(
        self, projected: Tensor, states: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None, direction: int
    ) -> tuple[Tensor, ...]:
        return (activate(self.activation[direction], projected + _F.linear(states[0], weight, bias)),)
