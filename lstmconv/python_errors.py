"""Functions of the Python API name options as arguments in their errors; inside, messages spell the command line's."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from lstmconv.errors import LstmconvError
from lstmconv.spelling import in_python

__all__ = ["speaks_python"]

Function = TypeVar("Function", bound=Callable[..., Any])


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
