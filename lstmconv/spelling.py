"""Messages name options as the command line spells them; for callers in Python they are spelled as arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from lstmconv.errors import LstmconvError

__all__ = ["in_python", "speaks_python"]

Function = TypeVar("Function", bound=Callable[..., Any])

_ARGUMENTS = {
    "lstm-only": "whole=False",
    "no-verify": "verify=False",
    "no-states": "states=False",
    "stack": 'stack="all"',
    "from": "from_",
    "last-step": "return_sequences=False",
    **{
        flag: f"{flag.replace('-', '_')}=True"
        for flag in ("force", "whole", "raw", "lengths", "states", "weights-only", "allow-not-finite", "go-backwards")
    },
}
"""Options that take no value, and those of another name."""
_SIZES = ("input-size", "hidden-size", "num-layers", "bidirectional")
"""Options of a bare cuDNN buffer: one argument in Python."""
_VALUE = re.compile(
    r"(?:float|bfloat)\d+|hard_sigmoid\w*|sigmoid|tanh|model\.json|partial|none|all|\d+"
    r"|torch|onnx|safetensors|cudnn|keras-cudnn|keras"
)
_OPTION = re.compile(rf"--([a-z][a-z-]*)(?:[= ]({_VALUE.pattern})(?![\w.]))?")


def in_python(text: str) -> str:
    """Return a message with its options as arguments.

    >>> in_python("m.pt exists already; pass --force to replace it")
    'm.pt exists already; pass force=True to replace it'
    >>> in_python("pass --config model.json, or --recurrent-activation hard_sigmoid (the default then) or sigmoid")
    'pass config="model.json", or recurrent_activation="hard_sigmoid" (the default then) or "sigmoid"'
    >>> in_python("choose one with --dtype; --stack=partial joins what fits")
    'choose one with dtype; stack="partial" joins what fits'
    """
    spelled = _OPTION.sub(_argument, text)
    return re.sub(rf'(="\w+"[^"]*? or )({_VALUE.pattern})\b(?!")', r'\1"\2"', spelled)


def _argument(found: re.Match[str]) -> str:
    option, value = found[1], found[2]
    name = option.replace("-", "_")
    if option in _SIZES:
        return f"buffer.{name}"
    if value is not None and option not in ("force", "whole", "raw", "lengths", "states", "weights-only"):
        return f"{name}={value}" if value.isdecimal() else f'{name}="{value}"'
    rest = "" if value is None else f" {value}"
    return _ARGUMENTS.get(option, name) + rest


def speaks_python(function: Function) -> Function:
    """Let the errors of a function name options as arguments."""

    @wraps(function)
    def spoken(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except LstmconvError as error:
            error.reason = in_python(error.reason)
            text = ": ".join((*error.about, error.reason))  # A file may have an option in its name.
            error.args = (text, *error.args[1:])
            if isinstance(error, ImportError):  # It prints this.
                error.msg = text
            raise

    return cast(Function, spoken)
