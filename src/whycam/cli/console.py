"""stderr and stdout: warnings and errors in one line each, a progress bar, and JSON that stays alone."""

import contextlib
import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from whycam.runs import Progress


def tell(kind: str, text: object) -> None:
    """Print one line on stderr, such as ``warning: ...``."""
    print(f"{kind}: {' '.join(str(text).split())}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show Python's warnings as one line each, without the place in the code that raised them."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        tell("warning", message)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def stdout_kept_for_json() -> Iterator[TextIO]:
    """Give the real stdout, while all else that is printed, also by libraries in C, goes to stderr."""
    sys.stdout.flush()
    try:
        real = os.dup(sys.stdout.fileno())
    except (OSError, io.UnsupportedOperation):  # no stdout of the system's, as in a notebook
        stream = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield stream
        return
    number = sys.stdout.fileno()
    os.dup2(sys.stderr.fileno(), number)
    try:
        with open(os.dup(real), "w", encoding="utf-8") as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(real, number)
        os.close(real)


@contextlib.contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator["Progress"]:
    """Give what draws a bar on stderr; nothing is drawn when ``quiet`` or where stderr is no terminal."""
    with staged_bar(quiet=quiet) as advance:
        yield functools.partial(advance, what)


@contextlib.contextmanager
def staged_bar(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Give what draws one bar for one stage after the other, as ``progress_bar`` does."""
    if quiet or not sys.stderr.isatty():
        yield lambda what, finished, planned: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def advance(what: str, finished: int, planned: int) -> None:
            if bar.tasks[0].description != what:
                bar.reset(task, description=what)  # its pace says nothing of the next one's
            bar.update(task, completed=finished, total=planned)

        yield advance
