"""Writing a run as it goes: a commit a batch, so that a kill at any moment loses only the batch at hand.

A commit is one file in ``rows/``, whole or absent. ``finish`` merges the commits into
``explanations.parquet``, marks the manifest finished and removes ``rows/``, in this order. The merged file
says up to which commit it goes, so that the run is readable between any two of these steps.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from whycam.errors import RunError
from whycam.store.files import make_folders, remove_files, run_errors, sync_folder, write_atomically
from whycam.store.folder import FolderState, RunFolder, refuse_foreign, refuse_run
from whycam.store.lock import FolderLock
from whycam.store.manifest import (
    SCHEMA_VERSION,
    Manifest,
    check_resumable,
    check_same_run,
    dump_document,
    read_document,
    utc_now,
)
from whycam.store.merge import drop_errors, merge
from whycam.store.names import PictureNames
from whycam.store.parts import (
    WRITE_OPTIONS,
    committed,
    has_merged,
    list_shards,
    open_part,
    remove_merged_shards,
    shard_path,
)
from whycam.store.schema import ArrowTable, Key, Row, plain_text, rows_to_table


@dataclass
class _Ledger:
    """What a run holds already."""

    finished: set[Key] = field(default_factory=set)
    pictures: set[str] = field(default_factory=set)
    last_commit: int = 0
    has_errors: bool = False


class RunWriter:
    """The one writer of a run folder; made by ``create`` or ``resume``, a context manager.

    Leaving the context gives the folder's lock back and does not finish the run. After a commit that failed
    the writer takes no more: what is on the disk is true, and ``resume`` goes on from there.
    """

    def __init__(
        self, folder: RunFolder, lock: FolderLock, document: dict[str, object], ledger: _Ledger
    ) -> None:
        """Begin with what ``create`` or ``resume`` has found."""
        self._folder = folder
        self._lock = lock
        self._document = document
        self._finished = ledger.finished
        self._next_commit = ledger.last_commit + 1
        self._names = PictureNames(ledger.pictures)
        self._unsynced: set[Path] = set()
        self._refusal: str | None = None

    @classmethod
    def create(cls, folder: str | os.PathLike[str], manifest: Manifest) -> "RunWriter":
        """Begin a run in a folder that is empty or does not exist yet.

        Raises RunError when the folder holds anything, cannot be written or is being written, and when the
        manifest holds what JSON does not have.
        """
        document = manifest.to_document()
        return cls._open(RunFolder(Path(folder)), refuse_run, lambda run: _begin(run, document))

    @classmethod
    def resume(cls, folder: str | os.PathLike[str], manifest: Manifest) -> "RunWriter":
        """Go on with a run, finished or not; begin it where there is none yet.

        ``manifest`` is that of the call at hand: its model, methods, target, layer, preprocessing, seed,
        style and sources must be the run's. Its image count takes the place of the run's, whose sources may
        hold more by now; its time, command, versions and device are noted as a resumption. Rows with an
        error are dropped, so that they can be written again. Raises RunError as ``create``, and when a
        setting differs.
        """
        document = manifest.to_document()

        def begin_or_go_on(run: RunFolder) -> tuple[dict[str, object], _Ledger]:
            return _go_on(run, document) if run.state() is FolderState.RUN else _begin(run, document)

        return cls._open(RunFolder(Path(folder)), refuse_foreign, begin_or_go_on)

    @classmethod
    def _open(
        cls,
        folder: RunFolder,
        refuse: Callable[[RunFolder], None],
        prepare: Callable[[RunFolder], tuple[dict[str, object], _Ledger]],
    ) -> "RunWriter":
        place = str(folder.path)
        with run_errors(f"write run folder {place!r}"):
            refuse(folder)  # before the lock: nothing is put into a folder that is not ours
            make_folders(folder.path)
            lock = FolderLock.acquire(folder.lock)
            try:
                refuse(folder)
                document, ledger = prepare(folder)
            except BaseException:
                lock.release()
                raise
        return cls(folder, lock, document, ledger)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def manifest(self) -> Manifest:
        """The manifest as it is on the disk."""
        return Manifest.from_document(self._document)

    @property
    def finished(self) -> Set[Key]:
        """The (id, method, target) of every committed row, earlier calls' without an error included.

        Not a copy.
        """
        return self._finished

    def write(self, rows: Iterable[Row]) -> None:
        """Commit rows: all of them, on the disk, when this returns, or none.

        Meant for a batch of images at a time; call it from one thread. Raises RunError when a row is there
        already or its values do not fit the columns (nothing is written, the writer goes on), and when the
        disk fails.
        """
        self._check_usable()
        batch = list(rows)
        if not batch:
            return
        self._refuse_repeats(batch)
        number = self._next_commit
        content = _shard_bytes(rows_to_table(batch, number))
        with self._committing("commit rows into"):
            self._next_commit += 1
            self._sync_pictures()
            path = shard_path(self._folder, number)
            write_atomically(path, self._folder.scratch, lambda file: file.write(content))
            self._finished.update(row.key for row in batch)
            sync_folder(path.parent)

    def save_picture(self, relative_name: str, encoded: bytes) -> str:
        """Store a picture below the run folder, whole or not at all; return its name for a row.

        The name has ``/`` between its parts and is changed where it is not safe on every file system, leads
        out of the folder or is taken by a picture of another name; the same name writes the same file again.
        May be called from several threads. Raises RunError when the disk fails.
        """
        self._check_usable()
        name = self._names.claim(relative_name)
        path = self._folder.path / name
        with run_errors(f"write picture {name!r} into {str(self.folder)!r}"):
            self._refuse_outside(path.parent)
            make_folders(path.parent)
            write_atomically(path, self._folder.scratch, lambda file: file.write(encoded))
        self._unsynced.add(path.parent)
        return name

    def finish(self) -> Manifest:
        """Merge all commits into ``explanations.parquet``, mark the run finished and close the writer.

        Returns the manifest with the number of images that have an error. Killed or failing in the middle,
        it leaves a run that is readable and that ``resume`` and ``finish`` complete. Raises RunError.
        """
        self._check_usable()
        with self._committing("finish"):
            self._sync_pictures()
            merged = merge(self._folder)
            self._document.update(finished=True, failures=merged.failures, schema_version=SCHEMA_VERSION)
            _write_document(self._folder, self._document)
            remove_merged_shards(self._folder, merged.through)
            remove_files(self._folder.shards)
            remove_files(self._folder.scratch)
        self.close()
        return self.manifest

    def close(self) -> None:
        """Give the lock back; the writer takes nothing more. Does nothing the second time."""
        self._refusal = self._refusal or "the writer of {} is closed; open it again with resume"
        self._lock.release()

    def __enter__(self) -> "RunWriter":
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the writer."""
        self.close()

    def _check_usable(self) -> None:
        if self._refusal is not None:
            raise RunError(self._refusal.format(repr(str(self.folder))))

    @contextmanager
    def _committing(self, action: str) -> Iterator[None]:
        """After an exception nobody knows how far it went; only the disk does."""
        before, self._refusal = self._refusal, "a commit to {} failed before; go on with --resume"
        with run_errors(f"{action} {str(self.folder)!r}"):
            yield
        self._refusal = before

    def _refuse_repeats(self, rows: list[Row]) -> None:
        seen: set[Key] = set()
        for row in rows:
            if row.key in self._finished or row.key in seen:
                raise RunError(
                    f"row {row.key!r} is in {str(self.folder)!r} already; expected each id, method and "
                    "target once; leave out what writer.finished holds"
                )
            seen.add(row.key)

    def _refuse_outside(self, folder: Path) -> None:
        if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(self.folder)):
            raise RunError(
                f"{str(folder)!r} leads out of the run folder; expected a folder, not a link; remove the link"
            )

    def _sync_pictures(self) -> None:
        """Before the rows that name them: a row on the disk has its picture there too."""
        while self._unsynced:
            sync_folder(self._unsynced.pop())


def _begin(run: RunFolder, document: dict[str, object]) -> tuple[dict[str, object], _Ledger]:
    make_folders(run.scratch)
    _write_document(run, document)
    # after the manifest: a folder with rows and without one would not be known as a run
    make_folders(run.shards)
    return document, _Ledger()


def _go_on(run: RunFolder, new: dict[str, object]) -> tuple[dict[str, object], _Ledger]:
    document, place = read_document(run), str(run.path)
    check_resumable(document, place)
    check_same_run(document, new, place)
    remove_files(run.scratch)
    make_folders(run.scratch)
    make_folders(run.shards)
    through = 0
    if has_merged(run):
        with open_part(run.table) as merged:
            through = merged.merged_through
        remove_merged_shards(run, through)
    elif document["finished"]:
        raise RunError(
            f"run folder {place!r} is finished and lacks {run.table.name}; restore it from a copy, "
            "or choose another --out"
        )
    ledger = _read_ledger(run, through)
    note = {"time": utc_now(), **{key: new[key] for key in ("command", "versions", "device")}}
    earlier: Any = document["resumed"]
    document |= {"finished": False, "failures": 0, "image_count": new["image_count"]}
    document |= {"resumed": [*earlier, note], "schema_version": SCHEMA_VERSION}
    _write_document(run, document)
    if ledger.has_errors:
        # after the manifest: a run that says it is finished must not lack rows
        remove_merged_shards(run, drop_errors(run))
    return document, ledger


def _read_ledger(run: RunFolder, through: int) -> _Ledger:
    """Go through the rows without an error; ``through`` is the last commit in the merged file."""
    # not the rows' numbers alone: a commit whose rows were all dropped has used its number up
    ledger = _Ledger(last_commit=max([through, *(number for number, _ in list_shards(run))]))
    for whole in committed(run, ["id", "method", "target", "picture", "overlay", "error"]):
        table = whole.filter(whole.column("error").is_null())
        ledger.has_errors |= table.num_rows < whole.num_rows
        ids, methods, targets, pictures, overlays = (
            [plain_text(text) for text in table.column(name).to_pylist()]
            for name in ("id", "method", "target", "picture", "overlay")
        )
        for name, method, target in zip(ids, methods, targets, strict=True):
            # interned: a million rows share a few methods and targets
            ledger.finished.add((name or "", method and sys.intern(method), target and sys.intern(target)))
        ledger.pictures.update(name for name in (*pictures, *overlays) if name is not None)
    return ledger


def _write_document(run: RunFolder, document: dict[str, object]) -> None:
    content = dump_document(document)
    write_atomically(run.manifest, run.scratch, lambda file: file.write(content))
    sync_folder(run.path)


def _shard_bytes(table: ArrowTable) -> memoryview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # in memory first: a commit is then one write, and it is no larger than the maps at hand
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=table.num_rows, **WRITE_OPTIONS)
    return memoryview(sink.getvalue())
