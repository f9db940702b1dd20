"""DICOM: values as a viewer shows them, and nothing of a patient anywhere."""

import io
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from whycam.data import Picture, read_image, read_volume
from whycam.errors import ImageError, MissingExtraError

SENTINEL = "SENTINEL"
RAMP = np.arange(-32, 32, dtype=np.int16).reshape(8, 8) * 40
Save = Callable[..., Path]


def _gray(path: Path, **options: Any) -> Any:
    rgb = np.asarray(read_image(path, **options).image)
    assert (rgb == rgb[..., :1]).all()
    return rgb[..., 0].astype(int)


def test_without_a_window_the_modality_values_own_range_is_shown(save_dicom: Save) -> None:
    expected = np.rint((RAMP.astype(float) - RAMP.min()) * 255 / np.ptp(RAMP))
    np.testing.assert_array_equal(_gray(save_dicom(RAMP, RescaleSlope=2, RescaleIntercept=-1024)), expected)
    # a falling slope turns light and dark around
    np.testing.assert_allclose(
        _gray(save_dicom(RAMP, RescaleSlope=-1, RescaleIntercept=0)), 255 - expected, atol=1
    )


def test_padding_does_not_count_for_the_range(save_dicom: Save) -> None:
    pixels = RAMP.copy()
    pixels[0] = -30_000
    levels = _gray(save_dicom(pixels, PixelPaddingValue=-30_000))
    assert (levels[0] == 0).all()
    assert (levels[1, 0], levels[-1, -1]) == (0, 255)


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (None, lambda x: (x - 39.5) / 399 + 0.5),
        ("LINEAR", lambda x: (x - 39.5) / 399 + 0.5),
        ("LINEAR_EXACT", lambda x: (x - 40) / 400 + 0.5),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 40) / 400))),
    ],
)
def test_the_first_window_is_applied_to_modality_values(
    function: str | None, shown: Callable[[Any], Any], save_dicom: Save
) -> None:
    elements = {} if function is None else {"VOILUTFunction": function}
    path = save_dicom(
        RAMP, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=[40, 99], WindowWidth=[400, 9], **elements
    )
    expected = np.rint(shown(2.0 * RAMP - 100).clip(0, 1) * 255)
    np.testing.assert_allclose(_gray(path), expected, atol=1)


def test_a_window_without_width_is_passed_over(save_dicom: Save) -> None:
    levels = _gray(save_dicom(RAMP, WindowCenter=0, WindowWidth=0))
    assert (levels.min(), levels.max()) == (0, 255)


def test_monochrome1_is_inverted(save_dicom: Save) -> None:
    light = _gray(save_dicom(RAMP, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(light, 255 - _gray(save_dicom(RAMP)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_every_gray_type_is_read(dtype: Any, save_dicom: Save) -> None:
    ramp = np.linspace(np.iinfo(dtype).min, np.iinfo(dtype).max, 64).astype(dtype).reshape(8, 8)
    np.testing.assert_allclose(_gray(save_dicom(ramp)), np.linspace(0, 255, 64).reshape(8, 8), atol=2)


def test_bits_that_the_values_leave_free_are_not_part_of_them(save_dicom: Save) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    clean = _gray(save_dicom(values, BitsStored=12))
    overlay = values.copy()
    overlay[2:4] |= 0x8000
    np.testing.assert_array_equal(_gray(save_dicom(overlay, BitsStored=12)), clean)


def test_colours_come_as_they_are(save_dicom: Save) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_image(save_dicom(pixels)).image, pixels)
    ycc = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    back = read_image(save_dicom(ycc, PhotometricInterpretation="YBR_FULL")).image
    np.testing.assert_allclose(np.asarray(back).astype(int), pixels.astype(int), atol=3)


def test_a_palette_is_applied(save_dicom: Save) -> None:
    palette = {}
    for colour, values in (("Red", [0, 65535]), ("Green", [32768, 0]), ("Blue", [0, 257])):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        palette[f"{colour}PaletteColorLookupTableData"] = np.array(values, np.uint16).tobytes()
    indices = np.array([[0, 1], [1, 0]], np.uint8)
    path = save_dicom(indices, PhotometricInterpretation="PALETTE COLOR", **palette)
    assert np.asarray(read_image(path).image).tolist() == [
        [[0, 128, 0], [255, 0, 1]],
        [[255, 0, 1], [0, 128, 0]],
    ]


def test_a_frame_is_chosen_and_has_the_window_of_its_own(save_dicom: Save) -> None:
    frames = np.stack([RAMP, RAMP + 100, RAMP + 200])
    path = save_dicom(frames, frames=3)
    first = read_image(path)
    assert (first.page, first.pages, len(first.notes)) == (0, 3, 1)
    named = read_image(f"{path}#page=2")
    assert (named.page, named.notes) == (2, ())
    with pytest.raises(ImageError, match=r"found 3 pages where page 3 .* a page from 0 to 2"):
        read_image(path, page=3)

    def groups(centre: int) -> Dataset:
        item, window = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, 11
        item.FrameVOILUTSequence = [window]
        return item

    enhanced = save_dicom(
        frames, frames=3, PerFrameFunctionalGroupsSequence=[groups(0), groups(0), groups(9000)]
    )
    assert _gray(enhanced, page=0).max() == 255
    assert _gray(enhanced, page=2).max() == 0


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_transfer_syntaxes_without_plug_ins_are_read(syntax: Any, tmp_path: Path, save_dicom: Save) -> None:
    expected = _gray(save_dicom(RAMP))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(save_dicom(RAMP))
        if syntax == RLELossless:
            dataset.compress(RLELossless)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / "b.dcm", implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    np.testing.assert_array_equal(_gray(tmp_path / "b.dcm"), expected)


@pytest.mark.parametrize(("syntax", "kind"), [(JPEGBaseline8Bit, "JPEG"), (JPEG2000Lossless, "JPEG2000")])
def test_jpeg_inside_is_read_and_must_have_the_headers_size(syntax: Any, kind: str, save_dicom: Save) -> None:
    file, pixels = io.BytesIO(), np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16)
    Image.fromarray(pixels).save(file, kind)
    coded = encapsulate([file.getvalue()])
    found = _gray(save_dicom(pixels, syntax=syntax, PixelData=coded))
    np.testing.assert_allclose(found, pixels, atol=6)
    with pytest.raises(ImageError, match="of another size than its header says"):
        read_image(save_dicom(pixels[:8], syntax=syntax, PixelData=coded))


def test_lossless_jpeg_2000_of_twelve_bits_gives_the_exact_values(save_dicom: Save) -> None:
    file, values = io.BytesIO(), (np.arange(256, dtype=np.uint16) * 16).reshape(16, 16)
    Image.fromarray(values).save(file, "JPEG2000")
    plain = save_dicom(values, BitsStored=12, HighBit=11)
    expected = _gray(plain)
    coded = encapsulate([file.getvalue()])
    path = save_dicom(values, syntax=JPEG2000Lossless, PixelData=coded, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(_gray(path), expected)


@pytest.mark.parametrize(
    "syntax", [JPEGLSLossless, JPEGLSNearLossless, JPEGLossless, JPEGLosslessSV1, HTJ2KLossless]
)
def test_a_syntax_without_a_decoder_is_one_line_that_names_the_packages(
    syntax: Any, save_dicom: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "is_available", property(lambda self: False))  # whatever is installed
    coded = encapsulate([b"\xff\xd8\xff\xf7"])
    with pytest.raises(
        ImageError, match=r"; export it .*, or pip install pylibjpeg pylibjpeg-libjpeg"
    ) as told:
        read_image(save_dicom(RAMP, syntax=syntax, PixelData=coded))
    assert len(str(told.value).splitlines()) == 1
    assert syntax.name.partition(",")[0].partition(" (")[0] in str(told.value)


def test_a_file_without_a_preamble_is_known_by_its_suffix(save_dicom: Save, tmp_path: Path) -> None:
    whole = save_dicom(RAMP).read_bytes()
    (tmp_path / "old.DCM").write_bytes(whole[132:])
    np.testing.assert_array_equal(_gray(tmp_path / "old.DCM"), _gray(save_dicom(RAMP)))
    (tmp_path / "nosuffix").write_bytes(whole)
    assert read_image(tmp_path / "nosuffix").original_mode == "MONOCHROME2"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "plug-in": ({"syntax": JPEGLosslessSV1, "PixelData": encapsulate([b"1234"])}, "JPEG Lossless"),
    "directory": ({"storage": MediaStorageDirectoryStorage}, "a DICOMDIR"),
    "large": ({"Rows": 60_000, "Columns": 60_000}, "60000 x 60000 = 3600000000 pixels"),
    "samples": ({"SamplesPerPixel": 60_000}, "neither gray nor three colours"),
    "cut": ({"Rows": 999}, "cannot be decoded"),
    "interpretation": ({"PhotometricInterpretation": SENTINEL}, "an unknown photometric interpretation"),
    "broken jpeg": (
        {"syntax": JPEGBaseline8Bit, "PixelData": encapsulate([SENTINEL.encode()])},
        "cannot be decoded",
    ),
    "slope": ({"RescaleSlope": 1e38, "RescaleIntercept": 1e38}, "not finite"),
}


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """Collect whatever is logged in the process, as a program with a log file would."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = records.append  # type: ignore[method-assign]
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield records
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.mark.parametrize("case", ["good", *REFUSED])
def test_nothing_of_the_patient_leaves_the_reader(
    case: str, save_dicom: Save, logged: list[logging.LogRecord], capfd: pytest.CaptureFixture[str]
) -> None:
    elements, text = REFUSED.get(case, ({}, ""))
    path = save_dicom(RAMP if "jpeg" not in case else RAMP.astype(np.uint8), **elements)
    logged.clear()
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for read in (read_image, read_volume):
            error = None
            try:
                found = read(path)
            except ImageError as refused:
                error = refused
            if error is not None:
                said += [*traceback.format_exception(error), *map(repr, _chain(error))]
            elif isinstance(found, Picture):
                assert case == "good"
                said.append(repr((found, found.image.info, found.image.getexif())))
    said += [str(warning.message) for warning in caught]
    said += [record.getMessage() for record in logged]
    said += capfd.readouterr()
    assert SENTINEL not in "\n".join(said)
    assert case == "good" or text in "\n".join(said)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_without_pydicom_the_extra_is_named(save_dicom: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_dicom(RAMP)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    monkeypatch.setitem(__import__("sys").modules, "pydicom.pixels.decoders", None)
    with pytest.raises(MissingExtraError, match=r"expected pydicom .* pip install 'whycam\[medical\]'"):
        read_image(path)


def test_damaged_files_raise_nothing_but_image_errors(save_dicom: Save, tmp_path: Path) -> None:
    whole, draws = save_dicom(RAMP, WindowCenter=0, WindowWidth=99).read_bytes(), np.random.default_rng(3)
    for _ in range(150):
        broken = bytearray(whole)
        for place in draws.integers(132, len(whole) - RAMP.nbytes, 3):
            broken[place] = draws.integers(0, 256)
        (tmp_path / "x.dcm").write_bytes(bytes(broken))
        with suppress(ImageError):
            read_image(tmp_path / "x.dcm")
