"""While a file is decoded, what the decoders would tell about it stays inside."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_DECODERS = ("PIL", "pydicom", "nibabel", "tifffile")


class _WarningsOff:
    """The decoders' warnings are off from the first reader's start to the last one's end.

    ``warnings.catch_warnings`` saves and restores one list for the whole process: used by each thread
    for itself, the one that leaves last would put back the list of another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._saved = warnings.catch_warnings()

    def begin(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                _ignore_decoders()
            self._readers += 1

    def end(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                self._saved.__exit__(None, None, None)


class _ReadersRecords(logging.Filter):
    """Drops log records of threads that are reading; those of all others pass."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self.thread, "readers", 0)


_WARNINGS_OFF = _WarningsOff()
_RECORDS = _ReadersRecords()


@contextmanager
def decoders_silenced() -> Iterator[None]:
    """Keep Pillow, pydicom, nibabel and tifffile from warning and logging in this thread.

    Their messages repeat what is in the file, a patient's name or terminal codes among it. Logging of other
    threads goes on; warnings are a list of the whole process and come back when the last reader leaves.
    """
    filter_loggers()
    _RECORDS.thread.readers = getattr(_RECORDS.thread, "readers", 0) + 1
    try:
        with _warnings_silenced():
            yield
    finally:
        _RECORDS.thread.readers -= 1


@contextmanager
def _warnings_silenced() -> Iterator[None]:
    if getattr(sys.flags, "context_aware_warnings", False):
        with warnings.catch_warnings():
            _ignore_decoders()
            yield
        return
    _WARNINGS_OFF.begin()
    try:
        yield
    finally:
        _WARNINGS_OFF.end()


def _ignore_decoders() -> None:
    warnings.filterwarnings("ignore", module=rf"({'|'.join(_DECODERS)})(\.|$)")


def filter_loggers() -> None:
    """Put the filter on each logger that the decoders have by now; to be called again after an import."""
    # a filter holds for its own logger only, so each one needs it; adding it again changes nothing
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _DECODERS:
            logging.getLogger(name).addFilter(_RECORDS)
