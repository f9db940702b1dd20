"""The folder of a training: checkpoints, their own files, the history, and the state it goes on from."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from whycam.errors import RunError
from whycam.models.messages import one_line
from whycam.models.sidecar import sidecar_path
from whycam.store.files import (
    make_folders,
    read_errors,
    remove_files,
    run_errors,
    sync_folder,
    write_atomically,
)
from whycam.store.lock import FolderLock
from whycam.training.history import EpochRecord, best_of, csv_of

Existing: TypeAlias = Literal["refuse", "resume"]
"""What to do with a training that is in the folder already."""

StateDict: TypeAlias = Mapping[str, Tensor]

_VERSION = 1


@dataclass(frozen=True)
class TrainingState:
    """What a training goes on from behind its last finished epoch; plain data and tensors.

    ``settings`` are what it was begun with, ``weights_sha256`` is that of the last epoch's checkpoint, and
    ``loop`` holds the optimiser's, the schedule's and the precision's own state. Of a training that has no
    finished epoch the last two are empty.
    """

    settings: Mapping[str, Any]
    history: tuple[EpochRecord, ...] = ()
    weights_sha256: str = ""
    loop: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TrainingFolder:
    """The paths of one training.

    ``model-E.pth`` is the checkpoint of epoch E, ``best.pth`` a copy of the best one; each has a YAML file of
    its name. ``training.state`` is what it goes on from, and written after all else of an epoch: what it
    speaks of is there. While a training runs there are also ``.tmp/`` (files not yet whole) and ``.lock``.
    """

    path: Path

    @property
    def best(self) -> Path:
        """The best epoch's checkpoint."""
        return self.path / "best.pth"

    @property
    def history(self) -> Path:
        """The table of the epochs."""
        return self.path / "history.csv"

    @property
    def curves(self) -> Path:
        """The history as a picture."""
        return self.path / "curves.png"

    @property
    def state(self) -> Path:
        """What the training goes on from."""
        return self.path / "training.state"

    @property
    def scratch(self) -> Path:
        """The folder of files that are still being written."""
        return self.path / ".tmp"

    def checkpoint(self, epoch: int) -> Path:
        """Return the place of an epoch's checkpoint."""
        return self.path / f"model-{epoch}.pth"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder as its only writer, and leave no unfinished file. Raises RunError."""
        with run_errors(f"make the folder {str(self.path)!r}"):
            make_folders(self.path)
        lock = FolderLock.acquire(self.path / ".lock")
        try:
            with run_errors(f"write into {str(self.path)!r}"):
                remove_files(self.scratch)
                self.scratch.mkdir(exist_ok=True)
            yield
        finally:
            remove_files(self.scratch)
            lock.release()

    def begin(self, settings: Mapping[str, Any]) -> TrainingState:
        """Write down what a training begins with. Raises RunError."""
        state = TrainingState(settings)
        with run_errors(f"write into {str(self.path)!r}"):
            self._write_state(state)
        return state

    def commit(self, state: TrainingState, weights: StateDict, sidecar: bytes) -> TrainingState:
        """Write the last epoch of ``state.history``, its state at the very end. Raises RunError.

        Returns the state as it is now in the folder.
        """
        record = state.history[-1]
        with run_errors(f"write epoch {record.epoch} into {str(self.path)!r}"):
            place = self.checkpoint(record.epoch)
            write_atomically(place, self.scratch, lambda file: torch.save(dict(weights), file))
            self._write(sidecar_path(place), sidecar)
            self.restore(state.history)
            committed = replace(state, weights_sha256=sha256(place.read_bytes()).hexdigest())
            self._write_state(committed)
        return committed

    def restore(self, history: Sequence[EpochRecord]) -> None:
        """Make the best checkpoint and the table those of ``history``. Raises OSError."""
        if history:
            best = self.checkpoint(best_of(history).epoch)
            for source, target in ((best, self.best), (sidecar_path(best), sidecar_path(self.best))):
                self._copy(source, target)
        self._write(self.history, csv_of(history))
        sync_folder(self.path)

    def write_curves(self, picture: bytes) -> None:
        """Write the picture of the history. Raises RunError."""
        with run_errors(f"write {str(self.curves)!r}"):
            self._write(self.curves, picture)
            sync_folder(self.path)

    def read_state(self) -> TrainingState:
        """Read what the training goes on from. Raises RunError where it is broken or of another kind."""
        name = str(self.state)
        with read_errors(self.state):
            try:
                content = torch.load(self.state, map_location="cpu", weights_only=True)
                if content["version"] != _VERSION:
                    raise RunError(
                        f"{name!r} is of version {one_line(content['version'], 20)}; this whycam reads "
                        f"{_VERSION}; install the one that wrote it"
                    )
                history = tuple(EpochRecord(**row) for row in content["history"])
                return TrainingState(content["settings"], history, content["weights_sha256"], content["loop"])
            except (OSError, RunError):
                raise
            # a broken file fails in the unpickler with nearly any type
            except Exception as error:
                raise RunError(
                    f"{name!r} is broken ({type(error).__name__}); expected the state of a training; train "
                    "into another folder (--out)"
                ) from error

    def last_checkpoint(self, state: TrainingState) -> Path:
        """Return the checkpoint that the training goes on from. Raises RunError where it was changed."""
        place = self.checkpoint(state.history[-1].epoch)
        try:
            digest = sha256(place.read_bytes()).hexdigest()
        except OSError as error:
            raise RunError(
                f"{str(place)!r} cannot be read ({error.strerror}), and the training goes on from it; put it "
                "back, or train into another folder (--out)"
            ) from error
        if digest != state.weights_sha256:
            raise RunError(
                f"{str(place)!r} is not what this training wrote (SHA-256 {digest[:12]}, expected "
                f"{state.weights_sha256[:12]}); put it back, or train into another folder (--out)"
            )
        return place

    def _write_state(self, state: TrainingState) -> None:
        content = {
            "version": _VERSION,
            "settings": dict(state.settings),
            "history": [asdict(record) for record in state.history],
            "weights_sha256": state.weights_sha256,
            "loop": None if state.loop is None else dict(state.loop),
        }
        write_atomically(self.state, self.scratch, lambda file: torch.save(content, file))
        sync_folder(self.path)

    def _write(self, target: Path, content: bytes) -> None:
        write_atomically(target, self.scratch, lambda file: file.write(content))

    def _copy(self, source: Path, target: Path) -> None:
        content = source.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            self._write(target, content)


def check_folder(path: Path, existing: Existing) -> None:
    """Refuse a folder that a training cannot be written to, before anything is loaded for it.

    A new training needs an empty folder or none; one that goes on also takes a training's. Raises RunError.
    """
    folder = TrainingFolder(path)
    with run_errors(f"look into {str(path)!r}"):
        try:
            names = set(os.listdir(path))
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise RunError(f"{str(path)!r} is no folder; choose another --out") from None
    if names <= {folder.scratch.name, ".lock"}:
        return
    if folder.state.name not in names:
        raise RunError(
            f"{str(path)!r} is neither a training's folder nor an empty one; expected one of these or none "
            "yet; choose another folder (--out)"
        )
    if existing == "refuse":
        raise RunError(
            f"{str(path)!r} holds a training already; choose another folder (--out), or go on with --resume"
        )
