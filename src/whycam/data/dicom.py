"""DICOM images, read by pydicom -> one upright RGB frame, and nothing else of the file."""

import importlib
import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from whycam.data.pages import FIRST_OF_SEVERAL, Decoded, settled_page
from whycam.data.refusal import (
    LacksPackageError,
    RefusedError,
    refuse_undecodable,
    require_few_pixels,
)
from whycam.data.silence import filter_loggers
from whycam.data.tones import Levels, Samples, integer_levels, scaled

_KIND = "a DICOM file"
_SUFFIXES = (".dcm", ".dicom")
_DIRECTORY = "1.2.840.10008.1.3.10"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_PILLOW_SYNTAXES = (
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"),
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
)
_BODY = 132
_LONG_LENGTHS = (b"OB", b"OW", b"UN", b"SQ", b"UT", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR", b"SV", b"UV")
_INVERTED, _GRAY, _PALETTE = "MONOCHROME1", ("MONOCHROME1", "MONOCHROME2"), "PALETTE COLOR"
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_SAVE_PLAIN = "export it in an uncompressed transfer syntax"
_INFLATED_BYTES_A_PIXEL = 8
# pydicom reads these alone: what it doesn't know of a patient it can't tell
_ELEMENTS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "SmallestImagePixelValue", "LargestImagePixelValue"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData"),
    *("SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData"),
    *("SegmentedBluePaletteColorLookupTableData", "AlphaPaletteColorLookupTableData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("ImageOrientationPatient", "ImagePositionPatient"),
)

Values = npt.NDArray[np.float32]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Window:
    """A window on modality values; ``function`` is LINEAR, LINEAR_EXACT or SIGMOID."""

    centre: float
    width: float
    function: str

    def applied(self, values: Values) -> Values:
        """Return values in 0..1 (PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):
                curve: Values = 1 / (1 + np.exp(-4 * (values - self.centre) / self.width))
            return curve
        exact = self.function == "LINEAR_EXACT"
        width, middle = (self.width, self.centre) if exact else (self.width - 1, self.centre - 0.5)
        if width == 0:
            return (values > middle).astype(np.float32)
        linear: Values = ((values - middle) / width + 0.5).clip(0, 1)
        return linear

    def is_valid(self) -> bool:
        """Return whether the width is one that the standard allows."""
        least = 1.0 if self.function == "LINEAR" else 1e-30
        return math.isfinite(self.centre) and math.isfinite(self.width) and self.width >= least


def is_dicom(data: bytes, suffix: str) -> bool:
    """Return whether a file is DICOM: by its mark, or without one by its suffix."""
    return data[128:_BODY] == b"DICM" or suffix.lower() in _SUFFIXES


def decode(data: bytes, wanted: int | None, max_pixels: int) -> Decoded:
    """Read a frame as its viewer would show it, without what was written over it or about the patient.

    Gray: stored values -> modality values (rescale slope and intercept, or the modality LUT) -> the first
    window (LINEAR, LINEAR_EXACT, SIGMOID) or, where there is none, the first VOI LUT -> 0..255. Without
    either the frame's min..max becomes 0..255; pixel padding does not count for it. MONOCHROME1 is
    inverted. Functional groups of enhanced images are looked up for the frame. Colour: palettes are
    applied, YBR becomes RGB; more than 8 bits are scaled by the full range of the stored bits.

    Nothing but pixel values leaves: other elements are not even parsed, and no error repeats the file's
    text. Raises RefusedError, or LacksPackageError without pydicom.
    """
    image = open_dicom(data, max_pixels)
    page = settled_page(wanted, image.frames)
    picture = safely(lambda: _picture(image, page), image.syntax)
    notes = (FIRST_OF_SEVERAL,) if wanted is None and image.frames > 1 else ()
    return Decoded(picture, image.photometric, page, image.frames, notes)


@dataclass(frozen=True)
class OpenDicom:
    """A DICOM image whose header was found sound; ``dataset`` holds ``_ELEMENTS`` and stays in the room."""

    dataset: Any
    syntax: str
    photometric: str
    frames: int

    @property
    def is_gray(self) -> bool:
        """Return whether frames have one value a pixel that means an amount."""
        return self.photometric in _GRAY

    def element(self, page: int, group: str, name: str) -> Any:
        """Return an element of a frame: its own, that of all frames, or the data set's; None without it."""
        per_frame = self.dataset.get("PerFrameFunctionalGroupsSequence")
        shared = self.dataset.get("SharedFunctionalGroupsSequence")
        frames = [per_frame[page]] if per_frame and page < len(per_frame) else []
        for groups in [*frames, *(shared or [])[:1]]:
            macro = groups.get(group)
            if macro and macro[0].get(name) is not None:
                return macro[0].get(name)
        return self.dataset.get(name)


def open_dicom(data: bytes, max_pixels: int) -> OpenDicom:
    """Parse the header and the elements of the picture. Raises RefusedError, or LacksPackageError."""
    _import_pydicom()
    _require_no_directory_nor_bomb(data, max_pixels)
    return safely(lambda: _opened(data, max_pixels), "")


def safely(work: Callable[[], Result], syntax: str) -> Result:
    """Do the work; what pydicom raises becomes a RefusedError that keeps nothing of it but its class."""
    try:
        return work()
    except (RefusedError, LacksPackageError):
        raise
    except Exception as error:
        reason = type(error).__name__
    return refuse_undecodable(f"{_KIND} in {syntax}" if syntax else _KIND, reason)


def modality_values(image: OpenDicom, page: int) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Return a gray frame's modality values [H, W], and where they are padding."""
    from pydicom.pixels.processing import apply_modality_lut

    stored = _stored(image, page)
    dataset = image.dataset
    padding = np.zeros(stored.shape, np.bool_)
    if dataset.get("PixelPaddingValue") is not None:
        one, other = dataset.PixelPaddingValue, dataset.get("PixelPaddingRangeLimit")
        ends = int(one), int(one if other is None else other)
        padding = (stored >= min(ends)) & (stored <= max(ends))
    if dataset.get("ModalityLUTSequence"):
        values = apply_modality_lut(stored, dataset).astype(np.float32)
    else:
        group = "PixelValueTransformationSequence"
        slope = image.element(page, group, "RescaleSlope")
        intercept = image.element(page, group, "RescaleIntercept")
        values = stored.astype(np.float32)
        with np.errstate(all="ignore"):  # what overflows is refused below
            values *= np.float32(1 if slope is None else slope)
            values += np.float32(0 if intercept is None else intercept)
    if not np.isfinite(values).all():
        raise RefusedError(f"{_KIND} whose values are not finite (NaN or infinity)", "replace them")
    return values, padding


def _import_pydicom() -> None:
    try:
        # all that will be needed: a module imported later would have a logger that is not filtered
        importlib.import_module("pydicom.pixels.decoders")
        importlib.import_module("pydicom.pixels.processing")
    except ImportError:
        raise LacksPackageError(_KIND, "pydicom") from None
    filter_loggers()


def _opened(data: bytes, max_pixels: int) -> OpenDicom:
    import pydicom
    from pydicom._uid_dict import UID_dictionary
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    dataset: Any = pydicom.dcmread(io.BytesIO(data), force=True, specific_tags=list(_ELEMENTS))
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise RefusedError(f"{_KIND} without pixel data", "name a file that holds an image")
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        implicit, _ = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    syntax = UID_dictionary.get(str(dataset.file_meta.TransferSyntaxUID))
    if syntax is None:
        raise RefusedError(f"{_KIND} in an unknown transfer syntax", _SAVE_PLAIN)
    photometric = str(dataset.get("PhotometricInterpretation"))
    if photometric not in (*_GRAY, _PALETTE, *_COLOURS):
        raise RefusedError(f"{_KIND} in an unknown photometric interpretation", "export it as gray or RGB")
    if int(dataset.SamplesPerPixel) not in (1, 3) or not 1 <= int(dataset.BitsAllocated) <= 64:
        raise RefusedError(f"{_KIND} whose pixels are neither gray nor three colours", "export it as RGB")
    require_few_pixels(int(dataset.Columns), int(dataset.Rows), max_pixels)
    image = OpenDicom(dataset, syntax[0], photometric, max(1, int(dataset.get("NumberOfFrames") or 1)))
    _require_decoder(image)
    return image


def _require_decoder(image: OpenDicom) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        if get_decoder(image.dataset.file_meta.TransferSyntaxUID).is_available:
            return
    except NotImplementedError:
        pass
    raise RefusedError(
        f"{_KIND} in {image.syntax}, for which pydicom has no decoder here",
        f"{_SAVE_PLAIN}, or pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg",
    )


def _require_no_directory_nor_bomb(data: bytes, max_pixels: int) -> None:
    start = _BODY if data[128:_BODY] == b"DICM" else 0
    body, syntaxes = start, []
    for element, value, end in _file_meta(data, start):
        body = end
        if element == 0x0002 and value == _DIRECTORY:
            raise RefusedError("a DICOMDIR, a list of other files", "name the image files themselves")
        if element == 0x0010:
            syntaxes.append(value)
    if len(syntaxes) > 1:
        raise RefusedError(f"{_KIND} with two transfer syntaxes", "copy the file again, or export it anew")
    if syntaxes == [_DEFLATED]:
        most = _INFLATED_BYTES_A_PIXEL * max_pixels
        try:
            inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(memoryview(data)[body:], most + 1)
        except zlib.error:
            return  # pydicom says so
        if len(inflated) > most:
            raise RefusedError(
                f"{_KIND} that unpacks to more than {most} bytes", "raise max_pixels if you trust the file"
            )


def _file_meta(data: bytes, start: int) -> Iterator[tuple[int, str, int]]:
    """Yield the elements of the file meta group, always explicit little endian, and where each one ends."""
    while start + 8 <= len(data):
        group, element, kind, length = struct.unpack_from("<HH2sH", data, start)
        if group != 0x0002:
            return
        start += 8
        if kind in _LONG_LENGTHS:
            if start + 4 > len(data):
                return
            (length,) = struct.unpack_from("<I", data, start)
            start += 4
        value = data[start : start + length].rstrip(b"\0 ").decode("latin-1")
        start += length
        yield element, value, start


def _stored(image: OpenDicom, page: int) -> Samples:
    """Return a frame's stored values [H, W] or [H, W, 3]; YBR is RGB by then."""
    from pydicom.pixels.decoders.base import get_decoder

    dataset = image.dataset
    uid = dataset.file_meta.TransferSyntaxUID
    if uid in _PILLOW_SYNTAXES:
        _require_size_of_header(image, page)
    samples: Samples = get_decoder(uid).as_array(dataset, index=page)[0]
    allocated, stored = samples.dtype.itemsize * 8, int(dataset.get("BitsStored") or 0)
    if samples.dtype.kind in "iu" and samples.ndim == 2 and 1 < stored < allocated:
        # older files keep overlays in the bits that the values leave free
        unused = samples.dtype.type(allocated - stored)
        samples = (samples << unused) >> unused
    return samples


def _require_size_of_header(image: OpenDicom, page: int) -> None:
    """Refuse a JPEG inside that is not of the size that its header was found sound with."""
    from pydicom.encaps import get_frame

    coded = get_frame(image.dataset.PixelData, page, number_of_frames=image.frames)
    with Image.open(io.BytesIO(coded), formats=("JPEG", "JPEG2000")) as frame:
        if frame.size != (int(image.dataset.Columns), int(image.dataset.Rows)):
            raise RefusedError(f"{_KIND} whose frame is of another size than its header says", _SAVE_PLAIN)


def _picture(image: OpenDicom, page: int) -> Image.Image:
    if image.is_gray:
        levels = _gray_levels(image, page)
        if image.photometric == _INVERTED:
            np.subtract(255, levels, out=levels)
        return Image.fromarray(levels).convert("RGB")
    samples = _stored(image, page)
    if image.photometric == _PALETTE:
        from pydicom.pixels.processing import apply_color_lut

        samples = apply_color_lut(samples, image.dataset)[..., :3]
        return Image.fromarray(integer_levels(samples, int(np.iinfo(samples.dtype).max)))
    if samples.ndim != 3 or samples.shape[2] != 3:
        raise RefusedError(f"{_KIND} whose colours are not three samples a pixel", "export it as RGB")
    return Image.fromarray(integer_levels(samples, (1 << int(image.dataset.BitsStored)) - 1))


def _gray_levels(image: OpenDicom, page: int) -> Levels:
    values, padding = modality_values(image, page)
    if values.ndim != 2:
        raise RefusedError(f"{_KIND} whose gray is of several samples a pixel", "export it as RGB")
    window = _window(image, page)
    if window is not None:
        return scaled(window.applied(values), 0.0, 1.0)
    if image.dataset.get("VOILUTSequence"):
        from pydicom.pixels.processing import apply_voi

        shown = apply_voi(np.rint(values).astype(np.int32), image.dataset, index=0)
        bits = int(image.dataset.VOILUTSequence[0].LUTDescriptor[2])
        return scaled(shown, 0.0, float((1 << bits) - 1))
    counted = values if padding.all() else values[~padding]
    return scaled(values, float(counted.min()), float(counted.max()))


def _window(image: OpenDicom, page: int) -> Window | None:
    group = "FrameVOILUTSequence"
    centre, width = (_first(image.element(page, group, f"Window{name}")) for name in ("Center", "Width"))
    if centre is None or width is None:
        return None
    function = str(image.element(page, group, "VOILUTFunction") or "LINEAR")
    window = Window(float(centre), float(width), function)
    return window if window.is_valid() else None


def _first(value: Any) -> Any:
    """Return the first of several values, the value itself, or None for an empty one."""
    values = [value] if isinstance(value, str | float | int) else list(value or ())
    return values[0] if values and values[0] != "" else None
