"""Build the graph from a config: every call of every layer, with its inputs, initial states and masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.keras.reader.arguments import Given, arguments, as_operands, mask_not_followed
from lstmconv.formats.keras.reader.call_order import call_order, resolved, value_of, without_masks
from lstmconv.formats.keras.reader.call_outputs import (
    changes_nothing,
    dtype_of_states,
    masked,
    output_dtype,
    state_count,
)
from lstmconv.formats.keras.reader.calls import Calls
from lstmconv.formats.keras.reader.entries import GIVEN, RECURRENT, Entry, Member, ModelEntry
from lstmconv.formats.keras.reader.kinds import OPERATOR_LAYERS, MaskRule, mask_rule, per_step
from lstmconv.formats.keras.reader.layers import Layers
from lstmconv.formats.keras.reader.masked_steps import makes_masks_of_steps, masked_steps_not_followed
from lstmconv.formats.keras.reader.masks import Value, masks_by_version, output_mask
from lstmconv.formats.keras.reader.nodes import Node
from lstmconv.formats.keras.reader.running import masks_taken
from lstmconv.model import Input, Layer, LSTMLayer, Model, RecurrentLayer, Shape, Stack, Tensor, TimeDistributed
from lstmconv.model.kinds import (
    Activate,
    Attention,
    Constant,
    GlobalPooling,
    MultiHeadAttention,
    Unknown,
)
from lstmconv.model.notes import LayerNote

__all__ = ["trace"]

_MAX_NESTING = 32
_READ_MASKS = (LSTMLayer, Stack, RecurrentLayer, GlobalPooling, Activate, Attention, MultiHeadAttention)
_ALONG = ("Softmax", "LogSoftmax")
_MASKS_OF_STEPS = "each of its steps has a mask of its own"
"""Operations for which ``axis=None`` means the whole tensor in Keras 3, and the last axis in TensorFlow."""


def trace(model: ModelEntry, layers: Layers) -> Model:
    """Read a whole model; a Sequential before Keras 2.2.3 has no name and becomes ``model``.

    Args:
        model: The model's config.
        layers: The builder of its layers.

    Raises:
        UnreadableFileError: A layer reads a tensor that nothing computes, or depends on its own output.
    """
    tracer = _Tracer(layers)
    inputs = list(_inputs(model, layers))
    tracer.calls.names.update(entry.name for entry in inputs)
    values = tracer.model(
        model, [Value(Tensor(entry.name), entry.shape or None, None, entry.dtype) for entry in inputs], "", ""
    )
    outputs = dict(zip(model.outputs, (value.tensor for value in values), strict=True))
    return Model(model.name or "model", tuple(inputs), tracer.calls.needed(list(outputs.values())), outputs)


def _inputs(model: ModelEntry, layers: Layers) -> Iterator[Input]:
    """Yield a model's inputs; a Sequential without an InputLayer has one named after its first layer."""
    by_name = {member.name: member.entry for member in model.members}
    first = model.members[0] if model.members else None
    counts: Counter[str] = Counter()
    names = model.input_names or tuple(ref.layer for ref in model.inputs)
    for ref, stated in zip(model.inputs, names, strict=True):
        if ref.layer != GIVEN:
            entry = by_name.get(ref.layer)
            if entry is None or not entry.own("InputLayer"):
                raise UnreadableFileError(f"its input '{ref.layer}' is no InputLayer", about="the model config")
            yield Input(stated, _shape_of(entry), _input_dtype(entry))
        elif first is not None:
            starting = _starting(first, ref.tensor)
            name = f"{first.name}_input"
            if layers.major == 1:  # keras 1.2.2 topology.py create_input_layer: by class, counted.
                prefix = f"{starting.class_name.lower()}_input"
                counts[prefix] += 1
                name = f"{prefix}_{counts[prefix]}"
            yield Input(name, _shape_of(starting) or layers.open_shape(starting), _input_dtype(starting))


def _starting(member: Member, branch: int) -> Entry:
    """Return the layer that states the shape of an input: the first layer, also inside nested models."""
    entry = member.entry
    for _ in range(_MAX_NESTING):
        if entry.own("Merge") and entry.parts:
            entry = list(entry.parts.values())[branch]
        elif entry.model is not None and entry.model.members:
            entry = entry.model.members[0].entry
        elif entry.own("TimeDistributed", "Bidirectional") and not _shape_of(entry):
            return entry
        else:
            break
        branch = 0
    return entry


def _shape_of(entry: Entry) -> Shape:
    stated = entry.config.get("batch_input_shape") or entry.config.get("batch_shape")
    if stated is None and isinstance(entry.config.get("input_shape"), list):
        stated = [None, *entry.config["input_shape"]]
    stated = entry.shape if stated is None else stated
    if not isinstance(stated, list) or not all(size is None or isinstance(size, int) for size in stated):
        return ()
    return tuple(stated)


def _input_dtype(entry: Entry) -> str:
    """Return an input's dtype: that of its InputLayer, or int32 if an Embedding reads it."""
    if entry.own("Embedding"):
        return "int32"
    stated = entry.config.get("dtype", entry.config.get("input_dtype")) if entry.own("InputLayer") else "float32"
    if isinstance(stated, Mapping):
        stated = (stated.get("config") or {}).get("name")
    return stated if isinstance(stated, str) and stated else "float32"


class _Tracer:
    """Builder of the calls of one graph."""

    def __init__(self, layers: Layers, depth: int = 0) -> None:
        self.layers = layers
        self.calls = Calls()
        self.depth = depth

    def model(self, model: ModelEntry, given: Sequence[Value], prefix: str, path: str) -> list[Value]:
        """Call every layer of a model after the layers that it reads; return the model's outputs.

        Args:
            model: The model.
            given: The model's inputs.
            prefix: The prefix of the names of its calls.
            path: The prefix of the names of its layers.
        """
        if self.depth > _MAX_NESTING:
            raise UnreadableFileError(f"models nest deeper than {_MAX_NESTING} levels", about="the model config")
        self.depth += 1
        values = self._given(model, given)
        taken = masks_taken(model) if self.layers.takes_masks else {}
        members = {(member.name, index): member for member in model.members for index in range(len(member.nodes))}
        for name, index in call_order(model, values):
            member = members[name, index]
            seen = without_masks(values, taken.get((name, index), frozenset()))
            values[name, index] = self.call(member, member.nodes[index], seen, model, prefix, path, index)
        self.depth -= 1
        return [value_of(ref, values, model) for ref in model.outputs.values()]

    def _given(self, model: ModelEntry, given: Sequence[Value]) -> dict[tuple[str, int], list[Value]]:
        if len(given) != len(model.inputs):
            raise UnreadableFileError(
                f"'{model.name}' is called with {len(given)} tensors, and has {len(model.inputs)}",
                about="the model config",
            )
        values: dict[tuple[str, int], list[Value]] = {}
        for ref, value in zip(model.inputs, given, strict=True):
            values.setdefault((ref.layer, 0), []).append(value)
        return values

    def call(
        self,
        member: Member,
        node: Node,
        values: Mapping[tuple[str, int], list[Value]],
        model: ModelEntry,
        prefix: str,
        path: str,
        index: int,
    ) -> list[Value]:
        """Make one call of a layer; return its outputs."""
        entry = member.entry
        name = f"{prefix}{member.name}" + (f":{index}" if index else "")
        own = self.layers.path(entry, f"{path}{member.name}")
        args = resolved(node.args, values, model)
        kwargs = resolved(node.kwargs, values, model)
        if entry.is_operation or entry.own(*OPERATOR_LAYERS):
            return self.operation(entry, name, own, args, kwargs)
        given = arguments(entry, args, kwargs)
        if entry.model is not None:
            inputs = given.inputs
            if given.explicit is not None:
                masks = [*given.explicit, *(None for _ in inputs)]
                inputs = tuple(value._replace(mask=mask) for value, mask in zip(inputs, masks, strict=False))
            return self.model(entry.model, inputs, f"{name}/", f"{own}/")
        if entry.own("Merge") and entry.parts:
            branches = [
                self.branch(part, value, prefix, path)
                for part, value in zip(entry.parts.values(), given.inputs, strict=True)
            ]
            given = given._replace(inputs=tuple(branches), listed=True)
        return self.layer(entry, name, own, given)

    def branch(self, part: Entry, value: Value, prefix: str, path: str) -> Value:
        """Run one branch of a Merge that begins a Sequential (Keras 1)."""
        if part.model is not None:
            return self.model(part.model, [value], prefix, path)[0]
        own = self.layers.path(part, f"{path}{part.name}")
        return self.layer(part, f"{prefix}{part.name}", own, Given((value,), False, (), None, {}))[0]

    def layer(self, entry: Entry, name: str, own: str, given: Given) -> list[Value]:
        """Call a layer that is not a model."""
        rule = mask_rule(self.layers.described(entry, own)) if entry.package is None else MaskRule("passes")
        before = masks_by_version(self.layers.version, given.inputs, given.explicit, listed=given.listed)
        reaching = self.reaching(given, rule)
        is_masked = any(mask is not None for mask in reaching)
        refused = rule.refuses if is_masked else ""
        refused = refused or mask_not_followed(entry, given) if self.layers.major == 3 else refused
        shapes = tuple(value.shape for value in given.inputs)
        built = self.build(entry, own, given, shapes, refused)
        if is_masked and (reason := masked_steps_not_followed(entry, lambda one: self.layers.described(one, own))):
            built = (*built, Unknown(f"{own}/masked", entry.title, reason, {}))
        if rule.output == "stops" and self._may_keep_mask(built, given.inputs):
            self.layers.producer.notes.append(
                LayerNote(
                    own,
                    "it changes nothing; the mask is assumed to end there, as with TensorFlow and PyTorch "
                    "(with JAX, Keras 3 keeps it)",
                )
            )
        states: list[Tensor] = []
        if isinstance(built[0], LSTMLayer | Stack | RecurrentLayer):
            expected = state_count(built[0])
            if given.states and len(given.states) != expected:
                reason = f"it is called with {len(given.states)} initial states and has {expected}"
                built = (self.layers.unknown(entry, own, reason),)
            else:
                states = [self.state(name, built[0], each, index) for index, each in enumerate(given.states)]
        outputs = self.run(name, own, built, given.inputs, states, reaching if rule.reads else ())
        axis = int(entry.config.get("axis", entry.config.get("concat_axis", -1))) if rule.concatenates else -1
        mask = output_mask(self.calls, name, rule, given.inputs, before, built[0], axis)
        return masked(outputs, built[-1], mask)

    def build(
        self, entry: Entry, own: str, given: Given, shapes: tuple[Shape | None, ...], refused: str
    ) -> tuple[Layer, ...]:
        """Return the model layers for an entry; an entry that was built before keeps its layers."""
        if refused:
            return (self.layers.unknown(entry, own, refused),)
        if entry.own("TimeDistributed"):
            return self.layers.once(entry, shapes, lambda: self.time_distributed(entry, own, shapes))
        return self.layers.once(entry, shapes, lambda: self.layers.build(entry, own, shapes, given.options))

    def time_distributed(self, entry: Entry, own: str, shapes: tuple[Shape | None, ...]) -> tuple[Layer, ...]:
        """Build the layers that run on each step: plain layers if they treat each step alone, else an inner model."""
        inner, shape = entry.parts["layer"], shapes[0] if shapes else None
        if shape is None or len(shape) < 3:
            shape = (None, None, None)
        step: Shape = (shape[0], *shape[2:])
        if inner.model is None and not inner.own("TimeDistributed", *RECURRENT, "Bidirectional"):
            if makes_masks_of_steps(inner, lambda one: self.layers.described(one, own)):
                return (self.layers.unknown(entry, own, _MASKS_OF_STEPS),)
            return per_step(own, self.layers.build(inner, own, (step,), {}), shape)
        tracer = _Tracer(self.layers, self.depth)
        tracer.calls.names.add("step")
        value = Value(Tensor("step"), step)
        if inner.model is not None:
            outputs = tracer.model(inner.model, [value], "", f"{own}/")
        else:
            outputs = tracer.layer(
                inner, inner.name or "layer", self.layers.path(inner, own), Given((value,), False, (), None, {})
            )
        if len(outputs) != 1:
            return (self.layers.unknown(entry, own, f"what it wraps returns {len(outputs)} tensors"),)
        if outputs[0].mask is not None and self.layers.major != 3:
            return (self.layers.unknown(entry, own, _MASKS_OF_STEPS),)
        calls = tracer.calls.needed([outputs[0].tensor])
        unknown = next((call.layer for call in calls if isinstance(call.layer, Unknown)), None)
        made = Model(own, (Input("step", (None, *step[1:])),), calls, {"output": outputs[0].tensor})
        if unknown is not None and inner.model is None:
            return (unknown,)
        built: tuple[Layer, ...] = (TimeDistributed(own, made),)
        inside = [each.last if isinstance(each, Stack) else each for each in made.layers]
        if any(isinstance(each, LSTMLayer | RecurrentLayer) and each.stateful for each in inside):
            built = (
                *built,
                Unknown(f"{own}/stateful", entry.title, "what it runs keeps a state from step to step", {}),
            )
        return built

    def reaching(self, given: Given, rule: MaskRule) -> tuple[Tensor | None, ...]:
        """Return the masks that a layer uses.

        Keras 3 passes an implicit mask only if a call has one tensor argument; with initial states it has several
        (layer.py ``__call__``, "Populate mask arguments").
        """
        if given.explicit is not None:
            return given.explicit
        if self.layers.major == 3 and given.states and not given.listed:
            return ()
        if rule.output in ("recurrent", "passes", "stops", "time_distributed"):
            return tuple(value.mask for value in given.inputs[:1])
        return tuple(value.mask for value in given.inputs)

    def run(
        self,
        name: str,
        own: str,
        built: Sequence[Layer],
        inputs: Sequence[Value],
        states: Sequence[Tensor],
        masks: Sequence[Tensor | None],
    ) -> list[Value]:
        """Call the model layers of one entry one after another."""
        values = list(inputs)
        for layer in built:
            suffix = layer.name.removeprefix(own) if layer.name.startswith(f"{own}/") else ""
            read = tuple(masks) if isinstance(layer, _READ_MASKS) and any(mask is not None for mask in masks) else ()
            made = self.calls.add(f"{name}{suffix}", layer, [value.tensor for value in values], states, read)
            shapes = self.layers.output_shapes(layer, [value.shape for value in values])
            dtype = output_dtype(layer, values)
            values = [Value(Tensor(made, index), shape, None, dtype) for index, shape in enumerate(shapes)]
        return values

    def state(self, name: str, layer: Layer, value: Any, index: int) -> Tensor:
        """Return an initial state: a tensor, or a constant for numbers in the config."""
        if isinstance(value, Value):
            return value.tensor
        numbers = np.asarray(value, dtype_of_states(layer))
        numbers = numbers.reshape(1, -1) if numbers.ndim < 2 else numbers
        letter = "hc"[index % 2] if isinstance(layer, LSTMLayer | Stack) else "h"
        own = f"{name}/initial_{letter}" + (f"_{index // 2}" if index > 1 else "")
        return Tensor(self.calls.add(own, Constant(own, numbers), ()))

    def operation(self, entry: Entry, name: str, own: str, args: Any, kwargs: Any) -> list[Value]:
        """Call a function between layers, which may become several model layers."""
        from lstmconv.formats.keras.reader.kinds.operations import build_operation

        values: list[Value] = []
        operands, options = as_operands(args, values), as_operands(kwargs, values)
        if self.layers.major == 3 and entry.class_name in _ALONG and entry.config.get("axis", -1) is None:
            unknown = self.layers.unknown(entry, own, "it runs along the whole tensor, the batch too")
            return self.run(name, own, (unknown,), values, (), ())
        steps = build_operation(self.layers.described(entry, own), operands, options)
        if self._may_keep_mask([step.layer for step in steps], values):
            reason = "it changes nothing, and whether the mask continues after it depends on Keras' backend"
            return self.run(name, own, (self.layers.unknown(entry, own, reason),), values, (), ())
        made: list[list[Value]] = []
        for step in steps:
            inputs = [made[each][0] if isinstance(each, int) else values[each.index] for each in step.inputs]
            made.append(self.run(name, own, (self.layers.same(entry, step.layer),), inputs, (), ()))
        return made[-1]

    def _may_keep_mask(self, built: Sequence[Layer], inputs: Sequence[Value]) -> bool:
        """Whether a layer may return its masked input tensor itself, together with the mask.

        Keras 3 stores a mask as an attribute of a tensor (backend/common/masking.py), and a backend may return the same
        tensor object for a cast to its own dtype or a reshape to its own shape.
        """
        masked = self.layers.major == 3 and any(value.mask is not None for value in inputs)
        return masked and all(changes_nothing(layer, inputs[0]) for layer in built)
