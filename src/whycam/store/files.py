"""Files that are whole or absent: temporary file, fsync, rename; and file errors in one line."""

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from whycam.errors import RunError

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, getattr(errno, "ENOTSUP", errno.EINVAL)}

_numbers = itertools.count()


def one_line(text: object) -> str:
    """Text with every run of white space, line ends included, as one space."""
    return " ".join(str(text).split())


@contextmanager
def run_errors(action: str) -> Iterator[None]:
    """Turn an OSError of the body into a RunError that names the action, the reason and the mend."""
    try:
        yield
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise RunError(f"cannot {one_line(action)}: {reason}; {_mend(error.errno)}") from error


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the body into a RunError in one line; FileNotFoundError passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise RunError(f"cannot read {str(path)!r}: {reason}; check its permissions and its disk") from error


def _mend(code: int | None) -> str:
    if code in _FULL:
        return "what was committed before stays readable; free some space, then go on with --resume"
    if code in _FORBIDDEN:
        return "choose a folder that you may write with --out, or change its permissions"
    return "what was committed before stays readable; mend the folder or its disk, then go on with --resume"


def write_atomically(target: Path, scratch: Path, produce: Callable[[BinaryIO], object]) -> None:
    """Give ``target`` its whole new content, or leave it as it was, whatever kills the process.

    ``produce`` writes the content into the file it is handed. ``scratch`` is a folder on the same file
    system. The content is on the disk before it gets its name; the name itself is there for sure only
    after ``sync_folder(target.parent)``. Raises OSError.
    """
    temporary = scratch / f"{next(_numbers):06d}.tmp"
    try:
        with open(temporary, "wb") as file:
            produce(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def sync_file(path: Path) -> None:
    """Put a file's content on the disk. Raises OSError when the disk fails."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk, where the system can. Raises OSError when the disk fails."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder may be writable and not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, each one's name put on the disk. Raises OSError."""
    missing = list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def remove_files(folder: Path) -> None:
    """Remove the files of a folder, not those of folders in it, and then itself, as far as possible.

    What cannot be removed is left: nobody reads it, and the next resume tries again.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):
                os.unlink(entry.path)
        os.rmdir(folder)
