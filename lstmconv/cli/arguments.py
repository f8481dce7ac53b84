"""Convert command-line words to values without pydantic.

From version 0.29 on, typer imports pydantic for this, which takes longer than everything else that ``lstmconv
inspect`` loads besides NumPy and h5py. Words that are clearly valid are converted here; typer gets all others and
reports what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

from typer.core import TyperCommand, TyperGroup

from lstmconv.errors import UsageError
from lstmconv.suggesting import suggestion

__all__ = ["Command", "Group"]


class Command(TyperCommand):
    """A command whose help lists its options by topic: typer knows it as an option's ``rich_help_panel``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List the arguments, the options without a topic, and those of each topic."""
        sections: dict[str, list[Any]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                own = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or own, []).append(record)
        for topic, records in sections.items():
            if records:
                with formatter.section(topic):
                    formatter.write_dl(records)


class Group(TyperGroup):
    """A group of commands whose parameters convert clearly valid words themselves."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the group's own parameters."""
        return _lightened(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments begin with.

        Raises:
            UsageError: There is none of this name; the text says what was meant.
        """
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UsageError(_no_command(args, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands, each with its whole first sentence."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=_SENTENCE)) for name, command in commands])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _lightened(command.get_params(ctx))
        return command


_SENTENCE = 400
"""No first sentence of a command's help is longer."""


def _no_command(arguments: list[str], commands: list[str]) -> str:
    """Say what somebody meant who gave no command."""
    word = arguments[0]
    if os.path.exists(word) or "." in word:  # noqa: PTH110  # a word, not a path yet
        command = "convert" if len(arguments) > 1 else "inspect"
        return f"{word} is no command; did you mean: lstmconv {command} {' '.join(arguments)}"
    return f"no command {word!r}; expected one of {', '.join(commands)}{suggestion(word, commands)}"


def _lightened(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        own = getattr(parameter, "get_runtime_param", None)  # typer before 0.29 has none, and imports no pydantic.
        if own is not None and not isinstance(own, _Plainly):
            parameter.get_runtime_param = _Plainly(own)
    return parameters


class _NotPlainError(Exception):
    """A word that typer should convert or refuse."""


class _Plainly:
    """Replaces a parameter's ``RuntimeParam``, and builds typer's own only if it is needed."""

    def __init__(self, typers_own: Callable[[], Any]) -> None:
        self._typers_own = typers_own

    def __call__(self) -> _Plainly:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        several = param.multiple or param.nargs == -1
        described = param.type_descriptor
        try:
            if value is None:
                return () if several else None
            if get_origin(described.annotation) is not list:
                return _plain(value, described.annotation, described.parameter_info)
            (each,) = get_args(described.annotation)
            return [_plain(entry, each, described.parameter_info) for entry in value]
        except _NotPlainError:
            return self._typers_own().coerce(value, param=param, ctx=ctx)


def _plain(value: Any, annotation: Any, parameter: Any) -> Any:
    """Return a word as a str, Path or int."""
    if not isinstance(annotation, type) or parameter.parser is not None:
        raise _NotPlainError
    if isinstance(value, annotation):
        return value
    if isinstance(value, str) and annotation is Path:
        path = Path(value)
        path = path.expanduser() if value.startswith("~") and not os.path.lexists(value) else path
        if os.access(path, os.R_OK) or not os.path.lexists(path):
            return path
    if isinstance(value, str) and annotation is int and value.isdecimal():
        number = int(value)
        if (parameter.min is None or number >= parameter.min) and (parameter.max is None or number <= parameter.max):
            return number
    raise _NotPlainError
