"""The command line: one file a verb, each of which parses, calls and says."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Annotated, Any, NoReturn

import typer

from whycam.cli.answer import DONE, INTERRUPTED, NOTHING_RAN, Answer, to_json
from whycam.cli.compare import compare
from whycam.cli.console import one_line_warnings, stdout_kept_for_json, tell
from whycam.cli.convert import convert
from whycam.cli.demo import demo
from whycam.cli.doctor import doctor
from whycam.cli.evaluate import evaluate
from whycam.cli.explain import explain
from whycam.cli.layers import layers
from whycam.cli.methods import methods
from whycam.cli.options import SeveralValues
from whycam.cli.report import report
from whycam.cli.running import StoppedError
from whycam.cli.select import select
from whycam.cli.testbed import make_testbed
from whycam.cli.train import train
from whycam.errors import WhycamError

_READER_WENT_AWAY = 141
"""What a shell shows for a program that SIGPIPE ended."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS: dict[str, Callable[..., Answer]] = {
    verb.__name__: verb
    for verb in (explain, layers, methods, train, select, evaluate, compare, report, convert, demo, doctor)
}
_VERBS["testbed"] = make_testbed  # a name in test... would be taken for a test
for name, verb in _VERBS.items():
    app.command(name, cls=SeveralValues)(verb)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"whycam {version('whycam')}")
        raise typer.Exit


@app.callback()
def whycam(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Show why an image model decided what it decided."""


def main() -> NoReturn:
    """Run the command line with the process's arguments, and exit with its code."""
    # before PyTorch is imported: threads that spin while they wait for each other make a forward on a busy
    # machine three times slower, and save a few percent at most on a quiet one
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command, print its answer, and return its exit code."""
    if not arguments:
        run(["--help"])
        return NOTHING_RAN
    asked_for_help = not {"-h", "--help", "--version"}.isdisjoint(arguments)
    as_json = "--json" in arguments and not asked_for_help
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name no terminal can show must not end a run
    try:
        with one_line_warnings(), stdout_kept_for_json() if as_json else nullcontext(sys.stdout) as stdout:
            answer = _answer(arguments)
            for line in [to_json(answer.data)] if as_json else answer.lines:
                print(line, file=stdout)
            stdout.flush()
    except BrokenPipeError:
        # what is left in the buffer would raise again when the interpreter flushes it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_WENT_AWAY
    return answer.code


def _answer(arguments: Sequence[str]) -> Answer:
    """Run the command; whatever it raises becomes one line on stderr and an answer."""
    try:
        result: Any = app(args=list(arguments), prog_name="whycam", standalone_mode=False)
    except BrokenPipeError:
        raise
    except SystemExit as end:
        if isinstance(end.__context__, OSError):  # how the parser says that the reader of its help went away
            raise BrokenPipeError from end
        raise
    except StoppedError as stop:
        return _refusal("Interrupted", str(stop), INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort):
        return _refusal("Interrupted", "interrupted", INTERRUPTED)
    except WhycamError as error:
        return _refusal(type(error).__name__, str(error), NOTHING_RAN)
    # the last line of defence: a user gets a line to report rather than a page of traceback
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's own, under whichever name this Typer has it
            return _refusal("UsageError", _usage(error, arguments), NOTHING_RAN)
        return _refusal(type(error).__name__, _bug(error), NOTHING_RAN)
    if isinstance(result, Answer):
        return result
    if result == INTERRUPTED:
        return _refusal("Interrupted", "interrupted", INTERRUPTED)
    return Answer((), {}, result or DONE)


def _refusal(kind: str, text: str, code: int) -> Answer:
    line = " ".join(text.split())
    if os.environ.get("WHYCAM_DEBUG") and kind != "Interrupted":
        traceback.print_exc()
    tell("error", line)
    return Answer((), {"error": line, "kind": kind}, code)


def _usage(error: Any, arguments: Sequence[str]) -> str:
    verb = next((word for word in arguments if word in _VERBS), "")
    said = " ".join(str(error.format_message()).split()).removesuffix(".")
    return f"{said} ({' '.join(['whycam', *([verb] if verb else []), '--help'])} shows what is possible)"


def _bug(error: Exception) -> str:
    return (
        f"unexpected {type(error).__name__}: {error}; this is a bug in whycam, please report it "
        "with the traceback that WHYCAM_DEBUG=1 shows"
    )
