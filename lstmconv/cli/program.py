"""The program: its commands' frame, its errors and its exit codes.

Exit codes: 0 done and equal, 1 not equal, 2 could not do it.
"""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from lstmconv._version import __version__
from lstmconv.cli import commands
from lstmconv.cli.arguments import Command, Group
from lstmconv.cli.convert import INTERRUPTED, StackCommand, convert
from lstmconv.cli.encoding import let_output_fall_back
from lstmconv.errors import LstmconvError
from lstmconv.proof.report import VerificationError

__all__ = ["app", "build_only", "main"]

app = typer.Typer(
    name="lstmconv",
    cls=Group,
    help="Convert trained LSTM models between Keras, PyTorch, ONNX and cuDNN, and prove that they compute the same.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Plain help: loading rich takes longer than everything else that --help does.
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done and equal, 1 not equal, 2 could not do it.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lstmconv {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command(cls=StackCommand)(convert)
for _command in (
    commands.inspect,
    commands.explain,
    commands.verify,
    commands.report,
    commands.run,
    commands.check,
    commands.formats,
):
    app.command(cls=Command)(_command)


def build_only(name: str) -> None:
    """Build the options of one command only: building those of all commands takes 10 ms."""
    if "_LSTMCONV_COMPLETE" in os.environ:  # A shell asks for the options of any command.
        return
    for entry in app.registered_commands:
        if entry.callback is not None and entry.callback.__name__ != name:
            entry.callback = _without_options(entry.callback)


def _without_options(command: Callable[..., Any]) -> Callable[[], None]:
    """Return a command with the name and the help that the list of commands shows."""

    def shown() -> None:
        pass

    shown.__name__, shown.__doc__ = command.__name__, command.__doc__
    return shown


def main() -> None:
    """Run the command line; every error is one line and an exit code, and one JSON object with ``--json``."""
    let_output_fall_back()
    try:
        code = app(standalone_mode=False)
    except VerificationError as error:
        _fail(error, 1)
    except LstmconvError as error:
        _fail(error, 2)
    except OSError as error:
        _fail(error, 2)
    except Exception as error:
        if isinstance(error, typer.Abort):
            _stopped()
        if hasattr(error, "format_message"):  # The user's, about arguments: typer has the usage line for it.
            _wrong_arguments(error)
        if os.environ.get("LSTMCONV_DEBUG"):
            raise
        _fail(f"unexpected {type(error).__name__}: {error}; set LSTMCONV_DEBUG=1 to see the traceback", 2)

    if code == INTERRUPTED:
        _stopped()
    sys.exit(code if isinstance(code, int) else 0)


def _stopped() -> NoReturn:
    """Say what Ctrl-C left: targets appear whole, at the end, or not at all."""
    _fail("stopped; nothing was written", INTERRUPTED)


def _wrong_arguments(error: Any) -> NoReturn:
    if "--json" not in sys.argv:
        error.show()
        sys.exit(error.exit_code)
    _fail(error.format_message(), error.exit_code)


def _fail(error: object, code: int) -> NoReturn:
    from lstmconv.cli import output

    report = getattr(error, "report", None)
    if "--json" in sys.argv:
        output.show_json({"error": str(error)})
    elif report is not None:
        output.show_report(report)
    output.show_error(str(error))
    sys.exit(code)
