"""Write the source of a model: ``class Model``, the definitions that torch lacks, and ``load()``."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Sequence

from lstmconv.formats.record import Record
from lstmconv.formats.torch_code.body import Body
from lstmconv.formats.torch_code.copied import definitions, imports, names_in
from lstmconv.formats.torch_code.layers import constructor
from lstmconv.formats.torch_code.lines import WIDTH, statement
from lstmconv.formats.torch_code.members import Members
from lstmconv.formats.torch_code.naming import inside
from lstmconv.formats.torch_code.recurrent import module_of
from lstmconv.model import Layer, LSTMLayer, Model, RecurrentLayer, Stack, TimeDistributed
from lstmconv.model.kinds import Constant, Rescaling
from lstmconv.model.names import arrays_of, name_inside

__all__ = ["source_of"]

_LOAD = '''
def load(path: str | Path | None = None) -> Model:
    """Return the model with its weights, in evaluation mode.

    Args:
        path: The state dict; by default the .pt file beside this one.
    """
    file = Path(__file__).with_suffix(".pt") if path is None else Path(path)
    model = Model()
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return model.eval()
'''
_RESET = '''
    def reset_states(self) -> None:
        """Have every stateful layer start from zeros again."""
        self.states = {}
'''


def source_of(model: Model, record: Record) -> str:
    """Return the source of a model, formatted.

    Args:
        model: A model whose layers have the names of the state dict, which are chains of identifiers.
        record: The record in the state dict.

    Raises:
        UnsupportedModelError: A layer is unknown or not written as source; the text names it.
    """
    members = Members()
    _add_layers(members, model, "")
    body = Body(members, wide=_is_double(model))
    methods = body.methods(model, record.sources)
    initial = [*members.constructors(), *body.constants()]
    if body.stateful:
        initial.append("self.states: dict[str, Any] = {}")
    if body.wide == "double":
        initial.append("self.double()")
    text = "\n".join(_model_class(initial, methods, body))
    text = "\n\n\n".join([*body.texts(), *members.classes(), text])
    copied = definitions(names_in(ast.parse(text)))
    code = "\n\n\n".join([*copied, text, _LOAD.strip()])
    return f"{_docstring(model, record, body)}\n\nfrom __future__ import annotations\n\n{imports(code)}\n\n\n{code}\n"


def _is_double(model: Model) -> bool:
    """Whether any layer's weights are float64; then the whole model computes in float64."""
    return any("float64" in _dtypes(layer) for layer in model.layers)


def _dtypes(layer: Layer) -> set[str]:
    stated = isinstance(layer, Constant | Rescaling)  # Their numbers come from the config.
    return set() if stated else {array.dtype.name for array in arrays_of(layer).values()}


def _add_layers(members: Members, model: Model, above: str) -> None:
    """Add the module of every layer with arrays."""
    seen: set[int] = set()
    for call in model.calls:
        layer = call.layer
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        path = inside(layer.name, above)
        if isinstance(layer, TimeDistributed):
            _add_layers(members, layer.model, name_inside(layer.name, above))
        elif isinstance(layer, LSTMLayer | RecurrentLayer | Stack):
            members.add(path, module_of(layer))
        elif (made := constructor(layer)) is not None:
            members.add(path, made)


def _docstring(model: Model, record: Record, body: Body) -> str:
    """Return the docstring of the source: the model's name, its origin, its inputs and outputs."""
    title = _fitted(f'"""{_plain(model.name)}, a Keras model in PyTorch.')
    inputs = ", ".join(
        f"{name} ({', '.join(map(str, model.axes_of(entry)))}) {entry.dtype}" for name, entry in body.inputs(model)
    )
    outputs = ", ".join(f"{_plain(name)} {shape}" for name, shape in body.outputs(model))
    names = ", ".join(name for name, _ in body.inputs(model))
    lines = [
        title,
        "",
        _fitted(f"Written by lstmconv {record.version} from {_plain(record.source)}"),
        f"(sha256 {_plain(record.sha256)}).",
        "The weights are in the .pt file of the same name: `model = load()`.",
        "",
        *textwrap.wrap(f"`model({names})` takes {_plain(inputs)} and returns {outputs}.", WIDTH),
        '"""',
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a text of a file in a form that cannot end or escape the docstring around it."""
    return ascii(text)[1:-1].replace('"', "'").replace("\\", "/")


def _fitted(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def _model_class(initial: Sequence[str], methods: Sequence[str], body: Body) -> Iterator[str]:
    yield "class Model(nn.Module):"
    yield '    """The layers have the names that they have in Keras."""'
    yield ""
    for name in body.constant_names():
        yield f"    {name}: Tensor"
    if body.constant_names():
        yield ""
    yield "    def __init__(self) -> None:"
    yield "        super().__init__()"
    for line in initial:
        yield from statement(line, 8)
    for method in methods:
        yield ""
        yield method
    if body.stateful:
        yield _RESET.rstrip()
