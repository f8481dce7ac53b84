"""Turn names of a file into unique identifiers: ASCII letters, digits and ``_``, and no name of Python or torch."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

from lstmconv.formats.torch.state_dict import path_of
from lstmconv.formats.torch_code.copied import IMPORTS, defined
from lstmconv.model import Model
from lstmconv.model.names import name_inside, named_layers

__all__ = ["ATTRIBUTES", "VARIABLES", "Names", "class_name", "identifier", "inside", "layer_names", "unique"]

ATTRIBUTES = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile",
    "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer",
    "get_extra_state", "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules", "mtia",
    "named_buffers", "named_children", "named_modules", "named_parameters", "parameters",
    "register_backward_hook", "register_buffer", "register_forward_hook", "register_forward_pre_hook",
    "register_full_backward_hook", "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter",
    "register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_", "reset_states",
    "set_extra_state", "set_submodule", "share_memory", "state_dict", "states", "to", "to_empty", "train",
    "training", "type", "xpu", "zero_grad",
})  # fmt: skip
"""The attributes of torch.nn.Module and of the written class: no layer can have these names."""
VARIABLES = frozenset({
    "abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "callable", "chr", "compile", "complex",
    "dict", "dir", "divmod", "enumerate", "eval", "exec", "exit", "filter", "float", "format", "frozenset",
    "getattr", "globals", "hash", "help", "hex", "id", "input", "int", "isinstance", "iter", "len", "list",
    "locals", "map", "max", "min", "next", "object", "oct", "open", "ord", "pow", "print", "property", "range",
    "repr", "reversed", "round", "set", "setattr", "slice", "sorted", "str", "sum", "super", "tuple", "type",
    "vars", "zip", *IMPORTS, "Model", "load", "self", "a", "b", "h", "c", "y", "state",
})  # fmt: skip
"""Names that the written methods use themselves, or that would mislead a reader: no variable can have them."""

_LONGEST = 40
"""The most characters of a layer's name between dots; longer names would not fit into lines."""
_LONGEST_VARIABLE = 16


def identifier(name: str, taken: frozenset[str], longest: int) -> str:
    """Return an identifier that looks like a name.

    >>> identifier("1st layer", frozenset(), 40), identifier("class", frozenset(), 40)
    ('_1st_layer', 'class_')
    >>> identifier("type", ATTRIBUTES, 40)
    'type_'
    """
    made = re.sub(r"[^A-Za-z0-9_]", "_", name)[:longest]
    if made[:2] == "__":  # Python changes such a name inside a class.
        made = made.lstrip("_")
    if not made.strip("_"):
        return "unnamed"
    if made[0].isdigit():
        made = f"_{made}"
    return f"{made}_" if keyword.iskeyword(made) or made in taken else made


def unique(made: str, used: Iterable[str]) -> str:
    """Return a name, with a number if it is used already."""
    number, tried = 2, made
    while tried in used:
        tried, number = f"{made}_{number}", number + 1
    return tried


def class_name(path: Iterable[str], used: Iterable[str]) -> str:
    """Return the name of the class for the layers under a path: ``encoder.block_1`` is ``EncoderBlock1``."""
    words = [word for part in path for word in part.split("_") if word]
    made = "".join(word[0].upper() + word[1:] for word in words) or "Layers"
    return unique(made if made[0].isalpha() else f"Layers{made}", used)


def layer_names(model: Model) -> dict[str, str]:
    """Return new names for the layers whose names in a state dict are no chains of identifiers; often an empty dict.

    Other names stay as they are in the state dict: a ``/`` and a ``.`` both lead into a submodule.
    """
    used: dict[tuple[str, ...], dict[str, str]] = {}
    names: dict[str, str] = {}
    for old in dict.fromkeys(layer.name for _, layer in named_layers(model)):
        raw: tuple[str, ...] = ()
        made: list[str] = []
        for part in path_of(old).split("."):
            level = used.setdefault(raw, {})
            if part not in level:
                level[part] = unique(identifier(part, ATTRIBUTES, _LONGEST), level.values())
            made.append(level[part])
            raw += (part,)
        if ".".join(made) != path_of(old):
            names[old] = "/".join(made)
    return names


class Names:
    """The names of the variables of one function."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.used = {*VARIABLES, *defined(), *taken}

    def new(self, name: str) -> str:
        """Return a variable for a tensor of this name."""
        made = unique(identifier(name.rpartition("/")[2], VARIABLES, _LONGEST_VARIABLE), self.used)
        self.used.add(made)
        return made


def inside(name: str, above: str) -> tuple[str, ...]:
    """Return the path of a layer's module, in parts."""
    return tuple(path_of(name_inside(name, above)).split("."))
