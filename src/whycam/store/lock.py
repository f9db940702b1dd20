"""One writer for each run folder: an advisory lock that dies with its process."""

import errno
import os
import sys
import threading
import warnings
from pathlib import Path

from whycam.errors import RunError
from whycam.store.files import run_errors

_UNSUPPORTED = {
    getattr(errno, name)
    for name in ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL")
    if hasattr(errno, name)
}

_guard = threading.Lock()
# a process's own second lock on a file succeeds, so that the process has to remember what it holds;
# with the process id, because a forked child remembers too but holds nothing
_held: dict[str, int] = {}

if sys.platform == "win32":
    import msvcrt

    def _request(descriptor: int) -> None:
        # far behind the content: a locked region cannot be read by others, and they want the id in it
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _request(descriptor: int) -> None:
        # a record lock, not flock: forked workers that outlive a killed writer must not keep its lock
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FolderLock:
    """The right to write one run folder, held from ``acquire`` to ``release`` or the process's end."""

    def __init__(self, path: Path, key: str, descriptor: int) -> None:
        """Hold what ``acquire`` got."""
        self._path = path
        self._key = key
        self._descriptor: int | None = descriptor
        self._owner = os.getpid()

    @classmethod
    def acquire(cls, path: Path) -> "FolderLock":
        """Lock the file at ``path``, made when absent.

        Raises RunError when another writer holds it, or when it cannot be made. On a file system without
        locks it warns and goes on.
        """
        key = os.path.realpath(path)
        with _guard:
            # before the file is opened: closing it again would drop the lock that this process holds
            if _held.get(key) == os.getpid():
                raise RunError(_busy(path, "this process"))
            with run_errors(f"lock run folder {str(path.parent)!r}"):
                descriptor = _open_locked(path)
            _held[key] = os.getpid()
        return cls(path, key, descriptor)

    def release(self) -> None:
        """Give the lock back and remove its file. Does nothing the second time, or in a forked child."""
        if self._descriptor is None or self._owner != os.getpid():
            return
        descriptor, self._descriptor = self._descriptor, None
        with _guard:
            try:
                if os.name != "nt":
                    # still locked: who opened it meanwhile finds it gone and tries again
                    _remove(self._path)
            finally:
                os.close(descriptor)
                _held.pop(self._key, None)
            if os.name == "nt":
                _remove(self._path)


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _try_lock(descriptor):
                raise RunError(_busy(path, _holder(descriptor)))
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it between our open and our lock


def _try_lock(descriptor: int) -> bool:
    try:
        _request(descriptor)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        if error.errno in _UNSUPPORTED:
            warnings.warn(
                f"the run folder's file system has no locks ({error.strerror}); "
                "make sure that only one process writes the run",
                stacklevel=2,
            )
            return True
        raise
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, 20).decode("ascii", "replace")
    return f"process {text}" if text.isdigit() else "another process"


def _busy(path: Path, holder: str) -> str:
    folder = str(path.parent)
    return f"run folder {folder!r} is being written by {holder}; wait for its end, or choose another --out"


def _remove(path: Path) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # an empty lock file is harmless
