"""A whole Keras model as one torch module: its layers as submodules, its graph as the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lstmconv.errors import UnsupportedModelError, UsageError
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.tensors import dtype_of_variables
from lstmconv.formats.torch.state_dict import path_of
from lstmconv.formats.torch.whole import model_tensors, obstacle_of_model
from lstmconv.model import LSTMLayer, Model, RecurrentLayer, Stack, TimeDistributed
from lstmconv.model import Tensor as Place
from lstmconv.model.kinds import Kind
from lstmconv.model.names import name_inside
from lstmconv.torch.arrays import tensor_of, torch_dtype
from lstmconv.torch.kinds import build
from lstmconv.torch.recurrent_layers import RunRecurrent, build_recurrent

__all__ = ["KerasModel", "from_model"]


class _Step(NamedTuple):
    """One call of a layer.

    Attributes:
        name: The call's.
        path: The submodule's name, in parts.
        run: Computes it.
        inputs, states, masks: What it reads.
        stateful: Its states are kept for the next batch.
    """

    name: str
    path: tuple[str, ...]
    run: Any
    inputs: tuple[Place, ...]
    states: tuple[Place, ...]
    masks: tuple[Place | None, ...]
    stateful: bool


class _Graph(NamedTuple):
    """A model's calls in the order in which they run; also of the model inside a TimeDistributed layer."""

    inputs: tuple[str, ...]
    steps: tuple[_Step, ...]
    outputs: tuple[Place, ...]


class KerasModel(nn.Module):
    """A Keras model: inputs and outputs in Keras' order, submodules by the names of its layers.

    ``/`` in a layer's name is a submodule's ``.``. Stateful layers keep their states between calls, until
    :meth:`reset_states`.

    Attributes:
        input_names, output_names: As Keras names them, in Keras' order.
        kept_states: What stateful layers keep, by the path of their submodule: h (and c) of each direction of each
            layer, ``(batch, units)``.
    """

    def __init__(self, model: Model) -> None:
        """Build the modules without numbers: :func:`from_model` fills them.

        Args:
            model: All its layers are known.

        Raises:
            UnsupportedModelError: A layer is unknown, or nothing computes it.
        """
        super().__init__()
        unknown = model.unknown
        if unknown:
            named = ", ".join(f"'{layer.name}' ({layer.class_name})" for layer in unknown)
            raise UnsupportedModelError(f"{model.name}: lstmconv does not compute {named}; use its layers one by one")
        reason = obstacle_of_model(model, WriteOptions())
        if reason is not None:
            raise UnsupportedModelError(reason)
        self.model_name = model.name
        self.input_names = tuple(entry.name for entry in model.inputs)
        self.output_names = tuple(model.outputs)
        self._boolean = tuple(entry.dtype == "bool" for entry in model.inputs)
        self._dtype = _float_type(model)
        self.kept_states: dict[tuple[str, ...], tuple[Tensor, ...]] = {}
        self._graph = self._build(model, "")

    def _build(self, model: Model, above: str) -> _Graph:
        """Place the layers of a model, whose names begin with ``above`` inside TimeDistributed."""
        steps: list[_Step] = []
        runs: dict[int, tuple[tuple[str, ...], Any]] = {}
        for call in model.calls:
            layer = call.layer
            if id(layer) not in runs:
                name = name_inside(layer.name, above)
                path = tuple(path_of(name).split("."))
                if isinstance(layer, TimeDistributed):
                    runs[id(layer)] = path, self._build(layer.model, name)
                else:
                    module, run = self._built(layer)
                    if module is not None:
                        _place(self, path, module)
                    runs[id(layer)] = path, run
            path, run = runs[id(layer)]
            stateful = bool(getattr(layer.last if isinstance(layer, Stack) else layer, "stateful", False))
            steps.append(_Step(call.name, path, run, call.inputs, call.states, call.masks, stateful))
        return _Graph(tuple(entry.name for entry in model.inputs), tuple(steps), tuple(model.outputs.values()))

    def _built(self, layer: LSTMLayer | RecurrentLayer | Stack | Kind) -> tuple[nn.Module | None, Any]:
        """Return a layer's module, and what runs it."""
        if isinstance(layer, LSTMLayer | RecurrentLayer | Stack):
            return build_recurrent(layer)
        return build(layer, self._dtype)

    def forward(self, *inputs: Any) -> Any:
        """Compute what the Keras model returns.

        Args:
            inputs: One tensor an input, in Keras' order; or one list of them, or one mapping by the inputs' names.

        Returns:
            One tensor, or a list of several in Keras' order.

        Raises:
            UsageError: There are more or fewer inputs, or a stateful layer meets another batch size.
        """
        results = self._run(self._graph, self._given(inputs))
        return results[0] if len(results) == 1 else results

    def _run(self, graph: _Graph, given: Sequence[Tensor]) -> list[Tensor]:
        found = {Place(name): value for name, value in zip(graph.inputs, given, strict=True)}
        for step in graph.steps:
            outputs = self._call(step, found)
            found |= {Place(step.name, index): tensor for index, tensor in enumerate(outputs)}
        return [found[place] for place in graph.outputs]

    def _given(self, inputs: tuple[Any, ...]) -> list[Tensor]:
        given: Sequence[Any] = inputs
        if len(inputs) == 1 and isinstance(inputs[0], dict):
            missing = [name for name in self.input_names if name not in inputs[0]]
            if missing:
                raise UsageError(f"{self.model_name}: no input {missing[0]!r}; it takes {', '.join(self.input_names)}")
            given = [inputs[0][name] for name in self.input_names]
        elif len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
            given = inputs[0]
        if len(given) != len(self.input_names):
            names = ", ".join(self.input_names)
            raise UsageError(f"{self.model_name}: {len(given)} inputs, expected {len(self.input_names)} ({names})")
        own = next((parameter.dtype for parameter in self.parameters() if parameter.is_floating_point()), self._dtype)
        return [
            x.bool() if boolean else x.to(own) if x.is_floating_point() else x
            for x, boolean in zip(given, self._boolean, strict=True)
        ]

    def _call(self, step: _Step, found: dict[Place, Tensor]) -> tuple[Tensor, ...]:
        module: Any = self
        for part in step.path:
            module = None if module is None else module._modules.get(part)
        inputs = [found[place] for place in step.inputs]
        masks = [None if place is None else found[place] for place in step.masks]
        if isinstance(step.run, _Graph):
            return (self._each_step(step.run, inputs[0]),)
        if not isinstance(step.run, RunRecurrent):
            outputs: tuple[Tensor, ...] = step.run(module, inputs, masks)
            return outputs
        states: Sequence[Tensor] = [found[place] for place in step.states]
        if not states and step.stateful:
            states = self.kept_states.get(step.path, ())
            batch = inputs[0].shape[1 if step.run.time_major else 0]
            if states and len(states[0]) != batch:
                before = len(states[0])
                raise UsageError(f"{step.name}: a batch of {batch} after one of {before}; call reset_states() first")
        outputs, finals = step.run(module, inputs[0], states, masks[0] if masks else None)
        if step.stateful:
            self.kept_states[step.path] = tuple(state.detach() for state in finals)
        return (*outputs, *finals)

    def _each_step(self, inner: _Graph, x: Tensor) -> Tensor:
        """Run the model inside TimeDistributed on all steps at once: its batch is batch and time."""
        (out,) = self._run(inner, [x.flatten(0, 1)])
        return out.reshape(*x.shape[:2], *out.shape[1:])

    def reset_states(self) -> None:
        """Have every stateful layer start from zeros again."""
        self.kept_states = {}


def _float_type(model: Model) -> torch.dtype:
    """Return the model's own float type, that of its first variables."""
    found = next((dtype for layer in model.layers if (dtype := dtype_of_variables(layer)) is not None), None)
    return torch.float32 if found is None else torch_dtype(found)


def _place(root: nn.Module, path: tuple[str, ...], module: nn.Module) -> None:
    """Put a submodule under a name in parts, which may be any that Keras takes (``type``, ``forward``)."""
    *above, last = path
    for part in above:
        root = root._modules.setdefault(part, nn.Module())  # type: ignore[assignment]  # there is no None among them
    inside = root._modules.get(last)
    if inside is not None:  # A layer "a" may stand beside "a/b".
        module._modules.update(inside._modules)
    root._modules[last] = module


def from_model(model: Model) -> KerasModel:
    """Return a module that computes what the Keras model computes, in evaluation mode; its weights are copies.

    Raises:
        UnsupportedModelError: A layer is unknown.
    """
    module = KerasModel(model)
    state = {entry.name: tensor_of(entry.materialise()) for entry in model_tensors(model, WriteOptions())}
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval()
