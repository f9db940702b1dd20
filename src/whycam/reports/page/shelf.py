"""Where the page's data lie: in the page itself, or in files beside it.

A file's name is the hash of its content: what an earlier page needs stays whole until the new page has taken
its place, the same content is written once, and what a killed call has written is not written again.
"""

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Protocol, runtime_checkable

from whycam.reports.page.text import script_json
from whycam.store.files import make_folders, sync_folder, write_atomically

DATA_FOLDER = "report"
"""The folder beside ``report.html``."""

_SUFFIXES = (".js", ".jpg")
_DIGITS = 32


@runtime_checkable
class Shelf(Protocol):
    """Takes pictures and chunks of data, whatever kind of page it is."""

    def keep_picture(self, content: bytes) -> str:
        """Take a JPEG file's content; return the address that an ``<img>`` is given."""
        ...

    def keep_chunk(self, content: dict[str, object]) -> str | None:
        """Take the next chunk; return the name of its file, where it has one."""
        ...


@dataclass
class InPage:
    """Everything in the one file; what was taken waits in a nameless temporary file.

    A context manager.
    """

    lengths: list[int] = field(default_factory=list)

    def __enter__(self) -> "InPage":
        """Open the temporary file."""
        self._file = TemporaryFile()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the temporary file, which removes it."""
        self._file.close()

    def keep_picture(self, content: bytes) -> str:
        """Return a picture's data URI."""
        return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")

    def keep_chunk(self, content: dict[str, object]) -> str | None:
        """Put a chunk behind those before it."""
        self.lengths.append(self._file.write(script_json(content).encode("ascii")))
        return None

    def chunks(self) -> Iterator[str]:
        """Return what was taken, chunk by chunk."""
        self._file.seek(0)
        for length in self.lengths:
            yield self._file.read(length).decode("ascii")


@dataclass
class BesidePage:
    """Files in the folder beside the page, each whole or absent."""

    folder: Path
    scratch: Path
    written: set[str] = field(default_factory=set)

    def keep_picture(self, content: bytes) -> str:
        """Write a picture; return its address as seen from the page."""
        return f"{DATA_FOLDER}/{self._keep(content, '.jpg')}"

    def keep_chunk(self, content: dict[str, object]) -> str | None:
        """Write a script that hands its data to the page: a page on ``file://`` may read nothing else."""
        script = f"whycamChunk({len(self._chunks)},{script_json(content)});\n"
        name = f"{DATA_FOLDER}/{self._keep(script.encode('ascii'), '.js')}"
        self._chunks.append(name)
        return name

    def __post_init__(self) -> None:
        """Make the folder."""
        self._chunks: list[str] = []
        make_folders(self.folder)

    def _keep(self, content: bytes, suffix: str) -> str:
        name = sha256(content).hexdigest()[:_DIGITS] + suffix
        path = self.folder / name
        # a disk that was mended may hold a file of zeros under the name
        if name not in self.written and not (path.exists() and path.read_bytes() == content):
            write_atomically(path, self.scratch, lambda file: file.write(content))
        self.written.add(name)
        return name

    def sync(self) -> None:
        """Put the files' names on the disk."""
        sync_folder(self.folder)


def remove_others(folder: Path, wanted: set[str]) -> None:
    """Remove what earlier pages wrote into the folder and no page needs; nothing of anybody else's."""
    if not folder.is_dir():
        return
    for entry in list(os.scandir(folder)):
        stem, suffix = os.path.splitext(entry.name)
        ours = suffix in _SUFFIXES and len(stem) == _DIGITS and not set(stem) - set("0123456789abcdef")
        if ours and entry.name not in wanted:
            os.unlink(entry.path)
    if not any(folder.iterdir()):
        folder.rmdir()
