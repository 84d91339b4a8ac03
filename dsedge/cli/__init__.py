"""The command line: `dsedge VERB ...`, one file a verb.

Nothing heavy is imported before a verb runs, so that `dsedge --help` answers at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from dsedge.cli.check import check
from dsedge.cli.compile import compile_
from dsedge.cli.doctor import doctor
from dsedge.cli.emit import emit
from dsedge.cli.explain import explain
from dsedge.cli.inspect import inspect
from dsedge.cli.output import print_json, show_error
from dsedge.cli.passes import passes
from dsedge.cli.targets import targets
from dsedge.cli.verify import verify
from dsedge.errors import DsedgeError, LoadError

__all__ = ["app", "main"]

_SIGPIPE_EXIT = 141
_UsageError: Any = typer.BadParameter.__base__  # Typer does not export it, and has it from one place or another


class _Interrupted(DsedgeError):
    """Ctrl-C or SIGTERM."""

    exit_code = 130


class _Internal(DsedgeError):
    """An exception that nobody expected."""

    exit_code = 3


class _Verbs(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        # Typer would answer an interrupt by itself, without a code; here everything below has been cleaned up.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise _Interrupted("DS900", "interrupted", hint="nothing was written") from interrupt


app = typer.Typer(
    name="dsedge",
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compile")(compile_)
for _verb in (check, explain, inspect, verify, emit, targets, passes, doctor):
    app.command()(_verb)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"dsedge {version('dsedge')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Compile a trained model for an edge device: INT8, verified, with a report."""


def main() -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 done, 1 a gate failed, 2 usage or input error, 3 a backend or dsedge itself failed, 130 interrupted,
    141 the reader of standard output went away.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may hold letters that the terminal has not
    # --debug and --json are looked for here because they decide how an error is shown, wherever it comes from.
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    json = "--json" in arguments
    try:
        raise SystemExit(app(arguments, standalone_mode=not json))
    except SystemExit as end:
        sys.exit(_flushed(end))
    except Exception as error:
        if debug:
            traceback.print_exc()
        shown = error if isinstance(error, DsedgeError) else _usage(error) or _internal(error)
        if json:
            print_json({"error": shown.to_json()})
        else:
            show_error(shown)
        sys.exit(shown.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A second one would break off the cleaning up after the first.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _usage(error: Any) -> LoadError | None:
    """A wrong command line, which Typer itself shows where no JSON was asked for; None for any other error."""
    if not isinstance(error, _UsageError):
        return None
    command = error.ctx.command_path if error.ctx else "dsedge"
    what = error.format_message().rstrip(".")
    return LoadError("DS145", what, where=command, hint=f"`{command} --help` lists the options")


def _internal(error: Exception) -> _Internal:
    return _Internal(
        "DS999",
        "an error inside dsedge",
        because=f"{type(error).__name__}: {error}",
        hint="run it again with --debug and report what it prints",
    )


def _flushed(end: SystemExit) -> Any:
    """The exit code after all output is written; a reader that went away ends dsedge as it ends other programs."""
    try:
        sys.stdout.flush()
        if not isinstance(end.__context__, BrokenPipeError):
            return end.code
        code = _SIGPIPE_EXIT
    except BrokenPipeError:
        code = _SIGPIPE_EXIT
    except OSError as error:
        show_error(_internal(error))
        code = _Internal.exit_code
    # What is left in the buffer cannot be written: Python would try again when it ends, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
