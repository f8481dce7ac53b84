"""Write the methods of the model: ``forward``, and one for each model that TimeDistributed runs on every step."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.torch.constructors import TAKE_FLOATS
from lstmconv.formats.torch_code.activations import X
from lstmconv.formats.torch_code.arithmetic import takes_numbers
from lstmconv.formats.torch_code.constants import constant, numbers_text
from lstmconv.formats.torch_code.constants import number as literal_number
from lstmconv.formats.torch_code.layers import RUNS, attention_call
from lstmconv.formats.torch_code.lines import WIDTH, comment, statement
from lstmconv.formats.torch_code.members import Members
from lstmconv.formats.torch_code.naming import ATTRIBUTES, Names, identifier, inside, unique
from lstmconv.formats.torch_code.reading import Read, Type, type_of
from lstmconv.formats.torch_code.recurrent import RecurrentRead, run_recurrent
from lstmconv.model import (
    Array,
    Call,
    Input,
    LSTMLayer,
    Model,
    RecurrentLayer,
    Shape,
    Stack,
    Tensor,
    TimeDistributed,
    kinds,
)
from lstmconv.model.names import name_inside
from lstmconv.model.shapes import infer

__all__ = ["Body"]

_JOINED = 72
"""The most characters of a line in which two expressions are joined into one."""
_RECURRENT = (LSTMLayer, RecurrentLayer, Stack)


class Body:
    """Writer of the methods of one model class.

    Attributes:
        wide: The method that converts a tensor to the model's float type: ``float``, ``double``.
        stateful: Whether a layer is stateful; known after :meth:`methods`.
    """

    def __init__(self, members: Members, *, wide: bool) -> None:
        self.wide = "double" if wide else "float"
        self.stateful = False
        self._taken = members.names()
        self._constants: dict[str, tuple[str, Array]] = {}
        self._sources: Mapping[str, str] = {}
        self._methods: list[str] = []

    def methods(self, model: Model, sources: Mapping[str, str]) -> list[str]:
        """Return all methods of a model; ``forward`` comes first.

        Args:
            model: The model.
            sources: The Keras names of layers that have other names here.
        """
        self._sources = sources
        first = self._function("forward", model, "")
        return [first, *self._methods]

    def constant_names(self) -> list[str]:
        """Return the names of the attributes for arrays of the config."""
        return [name for name, _ in self._constants.values()]

    def constants(self) -> list[str]:
        """Return the statements that create the attributes of :meth:`constant_names`."""
        return [constant(name, array, self.wide) for name, array in self._constants.values()]

    def texts(self) -> list[str]:
        """Return the statements before the class that contain the numbers of the larger arrays."""
        return [made for name, array in self._constants.values() if (made := numbers_text(name, array)) is not None]

    def _constant(self, name: str, array: Array) -> str:
        if name not in self._constants:
            made = identifier(name.replace("/", "_"), ATTRIBUTES, 24)
            made = unique(made, {*self._taken, *self.constant_names()})
            self._constants[name] = made, array
        return f"self.{self._constants[name][0]}"

    def inputs(self, model: Model) -> list[tuple[str, Input]]:
        """Return the inputs with their names as arguments."""
        names = Names(())
        return [(names.new(entry.name), entry) for entry in model.inputs]

    def outputs(self, model: Model) -> list[tuple[str, str]]:
        """Return the outputs by their names in Keras, with their shapes."""
        shapes = infer(model)
        return [(name, _shown(shapes.get(tensor, ()))) for name, tensor in model.outputs.items()]

    def _function(self, name: str, model: Model, above: str) -> str:
        shapes = infer(model)
        given = self.inputs(model)
        function = _Function(self, model, shapes, given, above)
        lines = [line for call in model.calls for line in function.call(call)]
        count = len(model.outputs)
        returned = ", ".join(function.variables[place] for place in model.outputs.values())
        hint = (
            "Tensor" if count == 1 else "tuple[Tensor, ...]" if count > 3 else f"tuple[{', '.join(['Tensor'] * count)}]"
        )
        head = f"    def {name}(self, {', '.join(f'{own}: Tensor' for own, _ in given)}) -> {hint}:"
        if len(head) > WIDTH:
            head = "\n".join([
                f"    def {name}(",
                "        self,",
                *(f"        {own}: Tensor," for own, _ in given),
                f"    ) -> {hint}:",
            ])  # fmt: skip
        return "\n".join([head, *function.casts(), *lines, *statement(f"return {returned}", 8)])

    def each_step(self, layer: TimeDistributed, above: str) -> str:
        """Write the method that runs a layer on one step; return its name."""
        full = name_inside(layer.name, above)
        name = unique(f"step_of_{'_'.join(inside(layer.name, above))}"[:40], {*self._taken, *ATTRIBUTES})
        self._taken.add(name)
        self._methods.append(self._function(name, layer.model, full))
        return f"self.{name}"

    def source_name(self, name: str) -> str:
        """Return a layer's name in Keras."""
        return self._sources.get(name, name)


class _Function:
    """Writer of one method, with the variable and the type of each tensor."""

    def __init__(
        self,
        body: Body,
        model: Model,
        shapes: Mapping[Tensor, Shape],
        given: Sequence[tuple[str, Input]],
        above: str,
    ) -> None:
        self.body, self.model, self.shapes, self.above = body, model, shapes, above
        self.names = Names({"x"})
        self.variables = {Tensor(entry.name): name for name, entry in given}
        self.names.used |= set(self.variables.values())
        self.types: dict[Tensor, Type] = {Tensor(entry.name): _type_of_input(entry) for _, entry in given}
        self.given = given
        self.numbers = {call.name: number for number, call in enumerate(model.calls)}
        self.last: dict[Tensor, int] = {}
        """The number of the last call that reads each tensor; for outputs, the number of calls."""
        for number, call in enumerate(model.calls):
            self.last |= dict.fromkeys(call.reads, number)
        self.last |= dict.fromkeys(model.outputs.values(), len(model.calls))
        self.steps: dict[int, str] = {}

    def casts(self) -> Iterator[str]:
        """Yield the statements that convert the arguments to the types in which the model computes."""
        for name, entry in self.given:
            own = "float64" if self.body.wide == "double" else "float32"
            if entry.dtype == "bool":
                yield f"        {name} = {name}.bool()"
            elif entry.is_float and entry.dtype != own:
                yield f"        {name} = {name}.{self.body.wide}()"

    def _target(self, call: Call, index: int = 0) -> str | None:
        """Return the variable of one output; ``None`` if nothing reads it. ``x`` is reused once its tensor is done."""
        place = Tensor(call.name, index)
        if place not in self.last:
            return None
        number = self.numbers[call.name]
        holders = [other for other, name in self.variables.items() if name == "x" and self.last.get(other, -1) > number]
        # The call's other inputs may still be read after its first statement.
        holders += [
            other for other in (*call.inputs[1:], *call.reads[len(call.inputs) :]) if self.variables[other] == "x"
        ]
        if _count(self.last, call) == 1 and not holders and self.types[place] != "bool":
            return "x"
        return self.names.new(f"{call.name.replace(':', '_')}{_ending(call, index)}")

    def call(self, call: Call) -> list[str]:
        """Write one call."""
        layer = call.layer
        if isinstance(layer, kinds.Unknown):
            raise UnsupportedModelError(layer.described)
        types = tuple(self.types[place] for place in call.inputs)
        for index in range(_count(self.last, call)):
            self.types[Tensor(call.name, index)] = type_of(layer, types)
        if isinstance(layer, kinds.Constant) and self._is_operand(call, layer):
            self.variables[Tensor(call.name)] = literal_number(layer.value)
            return []
        if isinstance(layer, kinds.Identity):
            self.variables[Tensor(call.name)] = self.variables[call.inputs[0]]
            self.last[call.inputs[0]] = max(self.last.get(call.inputs[0], -1), self.last.get(Tensor(call.name), -1))
            return []
        return self._commented(call, self._written(call, types))

    def _is_operand(self, call: Call, layer: kinds.Constant) -> bool:
        """Whether a constant is a single number, and every reader combines it with tensors of the model's type."""
        place = Tensor(call.name)
        readers = self.model.readers_of(place)
        constants = {Tensor(each.name) for each in self.model.calls if isinstance(each.layer, kinds.Constant)}
        return (
            not layer.value.ndim
            and self.body.wide == "float"
            and place not in self.model.outputs.values()
            and all(takes_numbers(reader.layer) and not constants.issuperset(reader.inputs) for reader in readers)
        )

    def _written(self, call: Call, types: tuple[Type, ...]) -> list[str]:
        layer = call.layer
        if isinstance(layer, _RECURRENT):
            return self._recurrent(call, layer, types)
        if isinstance(layer, TimeDistributed):
            return self._each_step(call, layer)
        read = Read(
            "self." + ".".join(inside(layer.name, self.above)),
            tuple(self.variables[place] for place in call.inputs),
            tuple(None if place is None else self._mask(place) for place in call.masks),
            tuple(self.shapes[place] for place in call.inputs),
            types,
            self.shapes[Tensor(call.name)],
            self.body.wide,
            self.body._constant,
        )
        if isinstance(layer, kinds.Attention | kinds.MultiHeadAttention):
            if isinstance(layer, kinds.MultiHeadAttention):
                read = read._replace(inputs=tuple(map(self._wide, read.inputs, types)))
            called = attention_call(layer, read)
            targets = [self._name(call, index) for index in range(2)]
            return [f"{targets[0] or '_'}, {targets[1] or '_'} = {called}"]
        steps = RUNS[type(layer)](layer, read)
        if isinstance(layer, TAKE_FLOATS) and types[0] != "float":
            steps = [f"{X}.{self.body.wide}()", *steps]
        return self._pipeline(call, read, steps)

    def _wide(self, name: str, own: Type) -> str:
        return name if own == "float" else f"{name}.{self.body.wide}()"

    def _mask(self, place: Tensor) -> str:
        return self.variables[place] if self.types[place] == "bool" else f"{self.variables[place]}.bool()"

    def _name(self, call: Call, index: int = 0) -> str | None:
        target = self._target(call, index)
        if target is not None:
            self.variables[Tensor(call.name, index)] = target
        return target

    def _pipeline(self, call: Call, read: Read, steps: Sequence[str]) -> list[str]:
        """Write expressions one after another, and join short ones in one line."""
        target = self._name(call)
        if target is None:
            return []
        lines: list[str] = []
        expression = read.inputs[0] if read.inputs else ""
        for number, step in enumerate(steps):
            made = step.replace(X, expression)
            if number and (not _joins(step, expression) or len(f"{target} = {made}") > _JOINED):
                lines.append(f"{target} = {expression}")
                made = step.replace(X, target)
            expression = made
        if expression != target:
            lines.append(f"{target} = {expression}")
        return lines

    def _recurrent(self, call: Call, layer: LSTMLayer | RecurrentLayer | Stack, types: tuple[Type, ...]) -> list[str]:
        last = layer.last if isinstance(layer, Stack) else layer
        self.body.stateful |= last.stateful
        x = self._wide(self.variables[call.inputs[0]], types[0])
        time_major = last.time_major
        states = tuple(self._state(place, f"{x}.shape[1]" if time_major else f"len({x})") for place in call.states)
        mask = next((self._mask(place) for place in call.masks if place is not None), None)
        targets = {}
        for index in range(_count(self.last, call)):
            target = self._name(call, index)
            if target is not None:
                targets[index] = target
        return run_recurrent(layer, RecurrentRead(inside(layer.name, self.above), x, states, mask, targets))

    def _state(self, place: Tensor, batch: str) -> str:
        name = self._wide(self.variables[place], self.types[place])
        return f"{name}.expand({batch}, -1)" if self.shapes[place][0] == 1 else name

    def _each_step(self, call: Call, layer: TimeDistributed) -> list[str]:
        if id(layer) not in self.steps:
            self.steps[id(layer)] = self.body.each_step(layer, self.above)
        target = self._name(call)
        called = f"each_step({self.steps[id(layer)]}, {self.variables[call.inputs[0]]})"
        return [] if target is None else [f"{target} = {called}"]

    def _commented(self, call: Call, written: Sequence[str]) -> list[str]:
        """Return the statements as lines, with a comment after the output: its shape, and the layer if not named."""
        lines = [line for one in written for line in statement(one, 8)]
        target = self.variables.get(Tensor(call.name))
        at = next((k for k, line in reversed([*enumerate(lines)]) if line.strip().startswith(f"{target} =")), None)
        at = len(lines) - 1 if at is None and len(written) == 1 else at
        if at is None or not lines:
            return lines
        name = self.body.source_name(call.layer.name)
        named = any(".".join(inside(call.layer.name, self.above)) in line for line in lines) and name == call.layer.name
        shape = _shown(self.shapes[Tensor(call.name)])
        for text in (shape,) if named else (f"{name} {shape}", name):
            behind = comment(text, len(lines[at]) + 2)
            if behind is not None:
                return [*lines[:at], f"{lines[at]}  {behind}", *lines[at + 1 :]]
        return lines


def _ending(call: Call, index: int) -> str:
    """Return the suffix of an output's variable: ``_h`` and ``_c`` for a plain layer's states, none for the first."""
    layer = call.layer
    if index == 0:
        return ""
    if isinstance(layer, LSTMLayer | RecurrentLayer) and len(layer.directions) == 1:
        return f"_{'hc'[index - 1]}"
    return f"_{index}"


def _count(last: Mapping[Tensor, int], call: Call) -> int:
    """Return how many outputs of a call may be read."""
    return 1 + max((place.index for place in last if place.source == call.name), default=0)


def _type_of_input(entry: Input) -> Type:
    if entry.dtype == "bool":
        return "bool"
    return "float" if entry.is_float else "int"


def _shown(shape: Shape) -> str:
    """Return a shape for people, with ``n`` for an unknown size."""
    sizes = [("batch" if axis == 0 else "n") if size is None else str(size) for axis, size in enumerate(shape)]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _joins(step: str, expression: str) -> bool:
    """Whether an expression can replace X in another one: X occurs once, and no parentheses are needed."""
    if step.count(X) != 1:
        return False
    if isinstance(ast.parse(expression, mode="eval").body, ast.Name | ast.Attribute | ast.Call | ast.Subscript):
        return True
    before, after = step.split(X)
    return before.endswith("(") and after.startswith((")", ","))
