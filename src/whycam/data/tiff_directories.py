"""What the directories of a TIFF or BigTIFF say of its pages, before any decoder sees the file."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from whycam.data.refusal import RefusedError

MAX_PAGES = 100_000

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_BIG_TYPE_BYTES = _TYPE_BYTES | {13: 4, 16: 8, 17: 8, 18: 8}
_UNSIGNED = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_VALUES = 64
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA, _FORMAT = 258, 262, 277, 284, 338, 339
_UNSIGNED_INTEGER, _SIGNED_INTEGER, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_RGB = 2


@dataclass(frozen=True)
class Entry:
    """A directory's entry: its tag, where its values begin and end, and their type and number."""

    tag: int
    kind: int
    count: int
    start: int
    end: int


@dataclass(frozen=True)
class _Layout:
    """How the numbers of a file are stored: classic TIFF or BigTIFF, in one of two byte orders."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        return self.order + ("HHQQ" if self.big else "HHII")


@dataclass(frozen=True)
class PixelLayout:
    """How a page's pixels are stored: ``sample_format`` is 1 unsigned, 2 signed, 3 float, 4 undefined.

    ``extra`` has an entry for each sample beyond those of the colour space: 1 and 2 are alpha.
    """

    bits: int
    sample_format: int
    samples: int
    planar: bool
    photometric: int
    extra: tuple[int, ...]

    def suits_pillow(self) -> bool:
        """Return whether Pillow gives this page's values, or their high bytes in 16-bit colour.

        It takes signed bytes for unsigned ones, and the low byte for the high one where 16-bit colour lies
        in planes. A layout that it does not know at all it refuses by itself.
        """
        integer = self.sample_format in (_UNSIGNED_INTEGER, _UNDEFINED)
        if self.bits <= 8:
            return integer
        if self.samples == 1:
            return self.sample_format in (_UNSIGNED_INTEGER, _SIGNED_INTEGER, _FLOAT)
        return integer and self.bits == 16 and self.samples in (3, 4) and not self.planar


def page_offsets(data: bytes) -> list[int]:
    """Return where each page's directory begins; a chain that leaves the file or bites its tail ends there.

    Raises RefusedError for more than ``MAX_PAGES``, or where not even the header is there.
    """
    try:
        layout = _layout(data)
        (offset,) = _unpack(layout.offset, data, 8 if layout.big else 4)
    except struct.error as error:
        raise RefusedError("a TIFF file that stops too early", "copy or download the file again") from error
    found: dict[int, None] = {}
    while offset and offset not in found:
        if len(found) >= MAX_PAGES:
            raise RefusedError(f"a TIFF of more than {MAX_PAGES} pages", "split it into several files")
        found[offset] = None
        try:
            (count,) = _unpack(layout.count, data, offset)
            after = offset + struct.calcsize(layout.count) + count * struct.calcsize(layout.entry)
            (offset,) = _unpack(layout.offset, data, after)
        except struct.error:
            break
    return [place for place in found if place < len(data)] or list(found)


def page_entries(data: bytes, page: int) -> Iterator[Entry]:
    """Yield the entries of a page's directory. Raises struct.error where the directory is cut."""
    layout = _layout(data)
    offsets = page_offsets(data)
    if page >= len(offsets):
        raise struct.error("no such directory")
    (count,) = _unpack(layout.count, data, offsets[page])
    first, step = offsets[page] + struct.calcsize(layout.count), struct.calcsize(layout.entry)
    inline = struct.calcsize(layout.offset)
    for place in range(first, first + count * step, step):
        tag, kind, values, offset = _unpack(layout.entry, data, place)
        size = values * (_BIG_TYPE_BYTES if layout.big else _TYPE_BYTES).get(kind, 1)
        start = place + step - inline if size <= inline else offset
        yield Entry(tag, kind, values, start, place + step if size <= inline else offset + size)


def pixel_layout(data: bytes, page: int) -> PixelLayout:
    """Return how a page's pixels are stored, by TIFF 6.0's defaults where a tag is missing.

    Raises struct.error where the directory is cut.
    """
    tags = {entry.tag: _values(data, entry) for entry in page_entries(data, page)}
    bits, formats = tags.get(_BITS) or (1,), tags.get(_FORMAT) or (_UNSIGNED_INTEGER,)
    return PixelLayout(
        bits=max(bits),
        sample_format=formats[0] if len(set(formats)) == 1 else 0,
        samples=(tags.get(_SAMPLES) or (len(bits),))[0],
        planar=(tags.get(_PLANAR) or (1,))[0] != 1,
        photometric=(tags.get(_PHOTOMETRIC) or (_RGB if len(bits) > 2 else 1,))[0],
        extra=tags.get(_EXTRA) or (),
    )


def _values(data: bytes, entry: Entry) -> tuple[int, ...]:
    letter = _UNSIGNED.get(entry.kind)
    if letter is None:
        return ()
    order = "<" if data[:2] == b"II" else ">"
    return _unpack(f"{order}{min(entry.count, _MOST_VALUES)}{letter}", data, entry.start)


def _unpack(form: str, data: bytes, offset: int) -> tuple[int, ...]:
    if offset > len(data):
        raise struct.error("beyond the end of the file")
    return struct.unpack_from(form, data, offset)


def _layout(data: bytes) -> _Layout:
    order = "<" if data[:2] == b"II" else ">"
    (magic,) = _unpack(order + "H", data, 2)
    return _Layout(order, big=magic == 43)
