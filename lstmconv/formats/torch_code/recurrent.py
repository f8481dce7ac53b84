"""Write recurrent layers: torch's own module if it computes the same steps, and lines around it for Keras' options.

Masks, directions, merge modes and states are written as separate lines, so that a plain layer is one plain line. The
lines compute the same as :mod:`lstmconv.torch.running`, which cites Keras' sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from lstmconv.activations import SIGMOID, TANH, Activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.torch.state_dict import extra_state, obstacle
from lstmconv.formats.torch.whole import halves_fit, recurrent_extra_state
from lstmconv.formats.torch_code.activations import function
from lstmconv.formats.torch_code.lines import literal
from lstmconv.model import GRUDirection, LSTMDirection, LSTMLayer, RecurrentLayer, SimpleRNNDirection, Stack

__all__ = ["RecurrentRead", "kept_states", "module_of", "run_recurrent"]

_Direction: TypeAlias = "LSTMDirection | GRUDirection | SimpleRNNDirection"
_One: TypeAlias = "LSTMLayer | RecurrentLayer"
_Path: TypeAlias = "tuple[str | int, ...]"
"""The parts of a module's path; a number is an index into a ModuleList."""


class RecurrentRead(NamedTuple):
    """A call of a recurrent layer.

    Attributes:
        path: The parts of its module's path: ``("encoder", "lstm")``.
        x: The input.
        states: h (and c) of each direction of each layer, each ``(batch, units)``; empty for zeros.
        mask: ``(batch, time)`` bool, or ``None``.
        targets: The variables of the outputs, then of the final states, by number; unused ones are left out.
    """

    path: tuple[str, ...]
    x: str
    states: tuple[str, ...]
    mask: str | None
    targets: Mapping[int, str]


def module_of(layer: LSTMLayer | Stack | RecurrentLayer) -> str:
    """Return the constructor of a layer's module.

    Raises:
        UnsupportedModelError: The layer is not written as source; the text names it.
    """
    if isinstance(layer, RecurrentLayer):
        if _is_one_module(layer):
            return _module([layer], recurrent_extra_state(layer))
        return _halves([RecurrentLayer(layer.name, _forwards(half)) for half in layer.directions])
    stack = layer if isinstance(layer, Stack) else Stack(layer.name, (layer,))
    if _is_one_module(stack):
        if len(stack.layers) > 1 and stack.first.go_backwards:
            raise UnsupportedModelError("layers that run backwards in one module are not written as source", layer.name)
        return _module(stack.layers, extra_state(stack))
    if len(stack.layers) > 1:
        return f"nn.ModuleList([{', '.join(map(module_of, stack.layers))}])"
    return _halves([LSTMLayer(layer.name, _forwards(half)) for half in stack.first.directions])


def _is_one_module(layer: LSTMLayer | Stack | RecurrentLayer) -> bool:
    """Whether the state dict has one torch module for all layers and halves."""
    if isinstance(layer, RecurrentLayer):
        return halves_fit(layer)
    return obstacle(layer if isinstance(layer, Stack) else Stack(layer.name, (layer,))) is None


def _forwards(half: Any) -> Any:
    return replace(half, go_backwards=False)


def _halves(layers: Sequence[_One]) -> str:
    return f"Halves({', '.join(map(module_of, layers))})"


def _custom(layers: Sequence[_One]) -> bool:
    """Whether torch's own module computes different steps, so that an own module is needed."""
    halves = [half for layer in layers for half in layer.directions]
    if isinstance(halves[0], SimpleRNNDirection):
        relu = {half.activation for half in halves} != {TANH}
        own = isinstance(layers[0], RecurrentLayer) and recurrent_extra_state(layers[0]) is None
        return relu and not own
    reset = all(half.reset_after for half in halves if isinstance(half, GRUDirection))
    gates = {getattr(half, "recurrent_activation", SIGMOID) for half in halves}
    return {half.activation for half in halves} != {TANH} or gates != {SIGMOID} or not reset


def _name(half: _Direction) -> str:
    return "LSTM" if isinstance(half, LSTMDirection) else "GRU" if isinstance(half, GRUDirection) else "RNN"


def _module(layers: Sequence[_One], options: Mapping[str, object] | None) -> str:
    first = layers[0]
    half = first.forward
    sizes = f"{half.input_size}, {half.hidden_size}"
    biased = any(getattr(each, "bias_ih", None) is not None or getattr(each, "bias_hh", None) is not None
                 for layer in layers for each in layer.directions)  # fmt: skip
    words: dict[str, object] = {
        "num_layers": len(layers) if len(layers) > 1 else None,
        "bias": None if biased else False,
        "options": None if options is None else dict(options),
    }
    if _custom(layers):
        name = _name(half)
        if isinstance(half, GRUDirection) and not half.reset_after:
            name = "GRUResetBefore"
        acts = [_function(each.activation) for each in first.directions]
        gates = [_function(getattr(each, "recurrent_activation", SIGMOID)) for each in first.directions]
        return f"{name}({sizes}, [{', '.join(acts)}], [{', '.join(gates)}]{_words(words)})"
    words["batch_first"] = True
    words["bidirectional"] = True if len(first.directions) > 1 else None
    if isinstance(half, SimpleRNNDirection) and half.activation != TANH:
        words["nonlinearity"] = "relu"
    own = f"nn.{_name(half)}" if options is None else f"{_name(half)}WithOptions"
    return f"{own}({sizes}{_words(words)})"


def _function(activation: Activation | None) -> str:
    assert activation is not None  # A model with unknown activations has been refused already.
    return function(activation)


def _words(words: Mapping[str, object]) -> str:
    order = ("num_layers", "nonlinearity", "bias", "batch_first", "bidirectional", "options")
    return "".join(f", {name}={literal(words[name])}" for name in order if words.get(name) is not None)


def kept_states(layer: LSTMLayer | Stack | RecurrentLayer, path: str) -> list[tuple[str, int]]:
    """Return the keys of ``states`` under which a stateful layer keeps its states, each with the number of states.

    Args:
        layer: The layer.
        path: Its module's path in the model.

    Returns:
        The keys in the order of :attr:`lstmconv.model.Call.states`; a state is h or c, ``(batch, units)``.
    """
    letters = 1 if isinstance(layer, RecurrentLayer) else 2
    layers: Sequence[_One] = layer.layers if isinstance(layer, Stack) else (layer,)
    if _is_one_module(layer):
        return [(path, letters * sum(len(own.directions) for own in layers))]
    if len(layers) > 1:
        return [kept for number, own in enumerate(layers) for kept in kept_states(own, f"{path}.{number}")]
    return [(f"{path}.{half}_layer", letters) for half in ("forward", "backward")]


def run_recurrent(layer: LSTMLayer | Stack | RecurrentLayer, read: RecurrentRead) -> list[str]:
    """Return the statements of a call."""
    layers: Sequence[_One] = layer.layers if isinstance(layer, Stack) else (layer,)
    writer = _Writer(read, layer.last if isinstance(layer, Stack) else layer)
    if layers[0].time_major:
        writer.x = f"{read.x}.transpose(0, 1)"
        writer.mask = None if read.mask is None else f"{read.mask}.transpose(0, 1)"
    if len(layers) == 1 or _is_one_module(layer):
        parts = writer.run(layers, read.path)
    else:
        for number, own in enumerate(layers[:-1]):
            inner = replace(own, return_sequences=True)
            outputs = writer.run([inner], (*read.path, number))
            if outputs != ["y"]:
                writer.lines.append(f"y = {outputs[0]}")
            writer.x = "y"
            if writer.mask is not None and [half.go_backwards for half in own.directions] == [True]:
                # The next layers receive the steps in the order in which this layer ran.
                writer.mask = f"{writer.mask}.flip(1)"
        parts = writer.run([layers[-1]], (*read.path, len(layers) - 1), last=True)
    sequences = writer.outer.return_sequences is not False
    for index, part in enumerate(parts):
        target = read.targets.get(index)
        if target is not None:
            shown = f"{part}.transpose(0, 1)" if layers[0].time_major and sequences else part
            writer.lines += [f"{target} = {shown}"] if shown != target else []
    return writer.lines


class _Writer:
    """The statements of one call.

    Attributes:
        lines: The statements so far.
        x, mask: The input and the mask of the next module, batch first.
    """

    def __init__(self, read: RecurrentRead, outer: _One) -> None:
        self.read = read
        self.outer = outer
        self.lines: list[str] = []
        self.x, self.mask = read.x, read.mask
        self.place = 0
        """The number of states that the modules have used so far."""
        self.outputs = 2 if outer.merge_mode == "none" and len(outer.directions) > 1 else 1

    def run(self, layers: Sequence[_One], path: _Path, *, last: bool = False) -> list[str]:
        """Run one module, or the halves of one layer; return its outputs as expressions."""
        own = layers[-1]
        sequences = own.return_sequences is not False
        two = len(own.directions) > 1
        if two and len(layers) == 1 and not _is_one_module(own):
            names = []
            for half, name, variable in zip(own.directions, ("forward", "backward"), "ab", strict=True):
                alone = [replace(own, forward=_forwards(half), backward=None)]
                self.one(alone, (*path, f"{name}_layer"), variable, backwards=half.go_backwards)
                names.append(variable)
            parts = ["a", "b.flip(1)"] if sequences else ["a[:, -1]", "b[:, -1]"]
        else:
            target = self.read.targets.get(0)
            joined = two and (own.merge_mode != "concat" or not sequences)
            final = own is self.outer or last
            variable = target if final and target is not None and not joined else "y"
            if final and not any(index in self.read.targets for index in range(self.outputs)):
                variable = "_"  # Only the layer's states are read.
            self.one(layers, path, variable, backwards=own.forward.go_backwards)
            if variable == "_":
                return ["_"] * self.outputs
            if not joined:
                return [variable if sequences else f"{variable}[:, -1]"]
            self.lines.append("a, b = y.chunk(2, dim=-1)")
            parts = ["a", "b"] if sequences else ["a[:, -1]", "b[:, 0]"]
        if own.merge_mode == "none":
            return parts
        a, b = parts
        merged = {"concat": f"torch.cat([{a}, {b}], dim=-1)", "sum": f"{a} + {b}", "mul": f"{a} * {b}",
                  "ave": f"({a} + {b}) / 2"}  # fmt: skip
        return [merged[own.merge_mode]]

    def one(self, layers: Sequence[_One], path: _Path, variable: str, *, backwards: bool) -> None:
        """Run one torch module."""
        me = "self" + "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in path)
        letters = "hc" if isinstance(layers[0], LSTMLayer) else "h"
        rows = len(layers) * len(layers[0].directions)
        count = rows * len(letters)
        start, self.place = self.place, self.place + count
        wanted = {
            k: target for k in range(count) if (target := self.read.targets.get(self.outputs + start + k)) is not None
        }
        key = ".".join(map(str, path)) if self.outer.stateful else None
        x, mask = (None if one is None else f"{one}.flip(1)" if backwards else one for one in (self.x, self.mask))
        hx = _given(self.read.states[start : start + count], letters)
        if hx is None and key is not None:
            hx = f"self.states.get({literal(key)})"
        arguments = [str(x)]
        plain = mask is None or _custom(layers)
        if plain:
            arguments += [given for given in (hx, mask) if given is not None]
            if hx is None and mask is not None:
                arguments[-1] = f"mask={mask}"
        else:
            arguments = [me, str(x), str(mask), *([] if hx is None else [hx])]
        if mask is not None and self.outer.zero_output_for_mask:
            arguments.append("zero_output=True")
        called = f"{me if plain else 'masked'}({', '.join(arguments)})"
        names = "(h, c)" if len(letters) == 2 else "h"
        state = "state" if key is not None else names if wanted else "_"
        self.lines.append(f"{variable}, {state} = {called}")
        if key is not None:
            self.lines.append(f"self.states[{literal(key)}] = detached(state)")
            self.lines += [f"{names.strip('()')} = state"] if wanted else []
        self.lines += [f"{target} = {letters[k % len(letters)]}[{k // len(letters)}]" for k, target in wanted.items()]


def _given(states: Sequence[str], letters: str) -> str | None:
    """Return the expression for torch's initial states: h and c, each stacked over layers and directions."""
    if not states:
        return None
    each = [states[place :: len(letters)] for place in range(len(letters))]
    rows = [f"{own[0]}[None]" if len(own) == 1 else f"torch.stack([{', '.join(own)}])" for own in each]
    return rows[0] if len(rows) == 1 else f"({', '.join(rows)})"
