"""Compare what a pickled module states (class, sizes, hooks) with the parameters that were found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.torch.pickled_modules import PickledModule
from lstmconv.model import LSTMLayer
from lstmconv.model.notes import LayerNote

__all__ = ["compare_sizes", "doubt", "order_of_axes"]

_PLAIN = ("torch.nn.modules.rnn.LSTM", "torch.nn.modules.rnn.LSTMCell")
_HARMLESS = "torch.nn.utils.prune."
"""Hooks that compute a parameter from what stands beside it, as :mod:`.inference_weights` does."""


def doubt(module: PickledModule) -> str | None:
    """Say why a module that has an LSTM's parameters may compute something else; ``None`` where it is PyTorch's own."""
    if module.class_name not in _PLAIN:
        return (
            f"its class is {module.class_name}, which may compute something else; "
            "if it computes what nn.LSTM does, take its state_dict()"
        )
    if module.changed_by:
        return (
            f"the program gives its parameters to {module.changed_by}, so it may run with others; export a module that "
            "calls the LSTM with its own"
        )
    hook = next((hook for hook in module.hooks if not hook.startswith(_HARMLESS)), None)
    if hook is not None:
        return f"a hook runs with it ({hook}), which may change what it computes; remove it, or take the state_dict()"
    return None


def compare_sizes(module: PickledModule, layers: Sequence[LSTMLayer], where: str) -> None:
    """Compare what a module states with the layers that its parameters are.

    Raises:
        UnreadableFileError: It states other sizes.
    """
    first = layers[0]
    found: Mapping[str, object] = {
        "input_size": first.input_size,
        "hidden_size": first.hidden_size,
        "num_layers": len(layers),
        "bidirectional": first.bidirectional,
        "bias": first.forward.bias_ih is not None,
    }
    for name, value in found.items():
        stated = module.attributes.get(name, value)
        if stated != value:
            raise UnreadableFileError(f"{where} states {name}={stated}, and its parameters are those of {name}={value}")


def order_of_axes(module: PickledModule, name: str) -> LayerNote | None:
    """Say that a module takes time first, where it does; a converted layer takes the batch first."""
    if module.class_name != _PLAIN[0] or module.attributes.get("batch_first", True) is not False:
        return None
    return LayerNote(
        name,
        "the module takes (time, batch, features), because batch_first is False; "
        "the converted layer takes (batch, time, features)",
    )
