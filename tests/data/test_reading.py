import dataclasses
import hashlib
import io
import logging
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, features

from whycam.data import Picture, pillow, read_image, reading
from whycam.data.silence import decoders_silenced
from whycam.errors import ImageError, UsageError

MakeFile = Callable[..., bytes]
needs_posix = pytest.mark.skipif(os.name != "posix", reason="pipes, devices and modes as POSIX has them")


def _refusal(path: Path, **options: int) -> str:
    """Return why the file is not read, after a check that it is said in one line that names the file."""
    with pytest.raises(ImageError) as caught:
        read_image(path, **options)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert line.startswith(str(path))
    assert ": found " in line
    assert ", expected a whole PNG, JPEG" in line
    assert "; " in line
    return line


def _written(folder: Path, data: bytes, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_picture_is_rgb_with_the_hash_of_its_bytes_and_its_first_mode(tmp_path: Path) -> None:
    path = tmp_path / "a b [1] 图.png"
    Image.new("CMYK", (4, 3)).save(path, "TIFF")
    picture = read_image(path)
    assert picture.image.mode == "RGB"
    assert picture.image.size == (4, 3)
    assert picture.original_mode == "CMYK"
    assert picture.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(dataclasses.FrozenInstanceError):
        picture.original_mode = "RGB"


def test_every_kind_of_file_looks_like_the_photo(
    tmp_path: Path, whole_files: dict[str, bytes], photo: Image.Image
) -> None:
    """Lossless kinds to the pixel; the others within what their coding or their few colours lose."""
    exact = {"png", "webp-lossless", "bmp", "ppm", "jp2", "j2k", "png-turned", "tiff-turned"}
    exact |= {f"tiff-{kind}" for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")}
    gray = {"png-16", "pgm-16", "pfm", "tiff-float", "tiff-signed"}
    other = {"bmp-rle", "ppm-plain", "pbm", "tiff-fax", "tiff-white-is-zero"}
    colour = np.asarray(photo).astype(int)
    for name, data in whole_files.items():
        path = _written(tmp_path, data)
        pixels = np.asarray(read_image(path).image).astype(int)
        if name in other:
            continue
        expected = colour[..., :1].repeat(3, axis=-1) if name in gray else colour
        if name.endswith("-turned"):
            expected = expected[::-1].transpose(1, 0, 2)  # 90 degrees clockwise
        assert pixels.shape == expected.shape, name
        worst, mean = np.abs(pixels - expected).max(), np.abs(pixels - expected).mean()
        assert worst <= 1 if name in exact | gray else mean < 40, f"{name}: {worst=} {mean=}"


def test_small_kinds_have_the_pixels_written_by_hand(tmp_path: Path, whole_files: dict[str, bytes]) -> None:
    plain = read_image(_written(tmp_path, whole_files["ppm-plain"])).image
    np.testing.assert_array_equal(plain, np.arange(10, 28).reshape(2, 3, 3))
    run_length = np.asarray(read_image(_written(tmp_path, whole_files["bmp-rle"])).image)[..., 0]
    np.testing.assert_array_equal(run_length, [[0, 0, 3, 3], [1, 1, 1, 1]])


def _stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels into what is stored under an EXIF orientation (EXIF 2.3, table 4: row 0, column 0)."""
    across = (1, 0, 2)
    return {
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(across),  # left, top
        6: upright[:, ::-1].transpose(across),  # right, top
        7: upright[::-1, ::-1].transpose(across),  # right, bottom
        8: upright[::-1].transpose(across),  # left, bottom
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("image_format", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_exif_orientation_is_applied(
    orientation: int, image_format: str, options: dict[str, bool], tmp_path: Path, photo: Image.Image
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(_stored(np.asarray(photo), orientation)))
    path = tmp_path / "turned"
    stored.save(path, image_format, exif=exif, **options)
    picture = read_image(path)
    np.testing.assert_array_equal(picture.image, photo)
    assert picture.image.getexif() == {}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_a_jpeg_is_applied(orientation: int, tmp_path: Path) -> None:
    corners = np.zeros((32, 48, 3), np.uint8)
    corners[:16, :24], corners[:16, 24:], corners[16:, :24] = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    Image.fromarray(np.ascontiguousarray(_stored(corners, orientation))).save(path, exif=exif, quality=95)
    got = np.asarray(read_image(path).image)[4::24, 4::36]
    assert np.abs(got.astype(int) - corners[4::24, 4::36]).max() < 10


@pytest.mark.parametrize("orientation", [0, 9, 77, "6", (6, 6)])
def test_a_senseless_orientation_means_upright(
    orientation: object, tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    photo.save(path)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "getexif", lambda image: {0x0112: orientation})
    np.testing.assert_array_equal(read_image(path).image, photo)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01", b"Exif\0\0"]
)
def test_a_broken_exif_block_means_upright_and_warns_nobody(
    exif: bytes, tmp_path: Path, photo: Image.Image
) -> None:
    path = tmp_path / "a.jpg"
    photo.save(path, exif=exif)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_image(path).image.size == photo.size
    assert caught == []


@pytest.mark.parametrize("name", ["gif-animated", "mpo"])
def test_of_several_frames_the_first_is_read(
    name: str, tmp_path: Path, whole_files: dict[str, bytes], photo: Image.Image
) -> None:
    picture = read_image(_written(tmp_path, whole_files[name]))
    assert picture.image.size == photo.size


def test_of_several_tiff_pages_the_first_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    Image.new("RGB", (2, 2), "red").save(
        path, save_all=True, append_images=[Image.new("RGB", (5, 5), "blue")]
    )
    np.testing.assert_array_equal(read_image(path).image, Image.new("RGB", (2, 2), "red"))


def test_the_transparent_colour_of_a_png_is_read_at_the_depth_of_the_file(
    tmp_path: Path, make_png: MakeFile, png_chunk: MakeFile
) -> None:
    png = make_png(4, 2, 0, [bytes([0b00011011])], before=png_chunk(b"tRNS", struct.pack(">H", 1)))
    levels = np.asarray(read_image(_written(tmp_path, png)).image)[..., 0]
    np.testing.assert_array_equal(levels, [[0, 255, 170, 255]])


# --- too large


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory, png_chunk: MakeFile) -> Path:
    """A valid 1-bit PNG of 50,000 x 50,000 pixels, some hundred kilobytes long."""
    side, packer = 50_000, zlib.compressobj(1)
    rows = bytes(1 + (side + 7) // 8) * 500
    data = b"".join([*(packer.compress(rows) for _ in range(side // 500)), packer.flush()])
    path = tmp_path_factory.mktemp("bomb") / "bomb.png"
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b""))
    return path


def test_a_bomb_is_refused_before_anything_is_decoded(bomb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda image: pytest.fail("decoded a bomb"))
    assert bomb.stat().st_size < 3_000_000
    line = _refusal(bomb)
    assert "50000 x 50000 = 2500000000 pixels, above the limit of 100000000" in line


def test_the_pixel_cap_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (20, 30)).save(path)
    assert read_image(path, max_pixels=600).image.size == (20, 30)
    assert "above the limit of 599" in _refusal(path, max_pixels=599)


def test_pillows_own_limit_neither_counts_nor_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = tmp_path / "a.png"
    Image.new("L", (20, 30)).save(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_image(path).image.size == (20, 30)
    assert caught == []
    assert Image.MAX_IMAGE_PIXELS == 10


def test_where_a_decoder_keeps_to_pillows_limit_it_is_said(
    tmp_path: Path, whole_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(data: bytes, filename: str) -> None:
        raise Image.DecompressionBombError("Image size (9 pixels) exceeds limit")

    monkeypatch.setattr(pillow, "_decoders", lambda: (("GIF", lambda prefix: True, too_large),))
    line = _refusal(_written(tmp_path, whole_files["gif"]))
    assert "Pillow's own limit" in line
    assert "MAX_IMAGE_PIXELS" in line


@pytest.mark.parametrize("max_pixels", [0, -1])
def test_a_cap_that_is_not_positive_is_wrong_usage(max_pixels: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a positive number"):
        read_image(tmp_path / "a.png", max_pixels=max_pixels)


def test_a_file_above_the_size_limit_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with open(path, "wb") as file:
        file.truncate(reading.MAX_FILE_BYTES + 1)
    assert f"{reading.MAX_FILE_BYTES + 1} bytes, above the limit of 2147483648" in _refusal(path)


# --- cut and broken


def _same(picture: Picture, other: Picture) -> bool:
    return picture.image.size == other.image.size and picture.image.tobytes() == other.image.tobytes()


KINDS = [
    *("jpeg", "jpeg-progressive", "jpeg-cmyk", "jpeg-turned", "mpo", "png", "png-turned", "png-16", "gif"),
    *("gif-animated", "webp", "webp-lossless", "avif", "jp2", "j2k", "bmp", "bmp-rle", "ppm", "ppm-plain"),
    *("pgm-16", "pbm", "pfm", "tiff-turned", "tiff-float", "tiff-signed", "tiff-white-is-zero", "tiff-fax"),
    *("tiff-raw", "tiff-tiff_lzw", "tiff-tiff_adobe_deflate", "tiff-packbits", "tiff-jpeg"),
]


def test_each_kind_of_file_is_cut_below(whole_files: dict[str, bytes]) -> None:
    assert sorted(KINDS) == sorted(whole_files)


@pytest.mark.parametrize("load_truncated", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_a_cut_file_is_refused_or_shows_the_very_same_picture(
    name: str,
    load_truncated: bool,
    tmp_path: Path,
    whole_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Near both ends at every length, between them at about 16; whatever the process told Pillow."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", load_truncated)
    data = whole_files[name]
    whole = read_image(_written(tmp_path, data))
    ends = [*range(12), *range(len(data) - 16, len(data))]
    refused = 0
    for length in sorted({*ends, *range(0, len(data), max(1, len(data) // 16))}):
        path = _written(tmp_path, data[:length])
        try:
            assert _same(read_image(path), whole), f"{name} cut at {length} of {len(data)}"
        except ImageError:
            refused += 1
    assert refused > 12
    assert load_truncated == ImageFile.LOAD_TRUNCATED_IMAGES


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_jpeg_or_png_cut_anywhere_is_refused(
    data: st.DataObject, whole_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = whole_files[data.draw(st.sampled_from(["jpeg", "jpeg-progressive", "png", "png-16"]))]
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ImageError):
        read_image(_written(tmp_path_factory.getbasetemp(), whole[:length], "cut"))


def test_a_jpeg_whose_tail_is_zeros_is_refused(tmp_path: Path, whole_files: dict[str, bytes]) -> None:
    data = whole_files["jpeg"]
    half = (len(data) + data.index(b"\xff\xda")) // 2
    assert "too early" in _refusal(_written(tmp_path, data[:half] + bytes(len(data) - half)))


def _read_or_refused(data: bytes, folder: Path) -> None:
    path, line = _written(folder, data, "fuzz"), ""
    try:
        picture = read_image(path, max_pixels=1_000_000)
        assert picture.image.mode == "RGB"
        assert picture.content_hash == hashlib.sha256(data).hexdigest()
    except ImageError as error:
        line = str(error)
    assert len(line.splitlines()) <= 1


BEGINNINGS = [
    *(
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"II+\0",
        b"P6 9 9 9 ",
    ),
    *(b"P3 2 2 9 ", b"Pf 2 2 -1 ", b"\xff\x4f\xff\x51", b"RIFF\x30\0\0\0WEBPVP8 ", b"\0\0\0\x20ftypavif"),
]


@settings(deadline=None, max_examples=300)
@given(beginning=st.sampled_from(BEGINNINGS), rest=st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_image_errors(
    beginning: bytes, rest: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _read_or_refused(beginning + rest, tmp_path_factory.getbasetemp())


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_files_raise_nothing_but_image_errors(
    data: st.DataObject, whole_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = bytearray(whole_files[data.draw(st.sampled_from(KINDS))])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(broken), 400) - 1) | st.integers(0, len(broken) - 1))
        broken[place] = data.draw(st.integers(0, 255))
    _read_or_refused(bytes(broken), tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file (0 bytes)"),
        (b"just some text\n", "something else (it begins with b'just som')"),
        (b"<svg xmlns=''/>", "something else"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "something else (it begins with b'%!PS-Ado')"),
        (b"\x89PNG\r\n\x1a\n", "a header that cannot be read (PNG"),
    ],
)
def test_what_is_no_picture_is_refused_whatever_its_name(data: bytes, found: str, tmp_path: Path) -> None:
    assert f"found {found}" in _refusal(_written(tmp_path, data, "picture.jpg"))


def test_a_format_that_this_pillow_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = (("AVIF", lambda prefix: "support not installed", None),)
    monkeypatch.setattr(pillow, "_decoders", lambda: lacking)
    line = _refusal(_written(tmp_path, b"\0\0\0 ftypavif"))
    assert "found the format AVIF, which this Pillow is built without" in line


@pytest.mark.parametrize(
    "error",
    [
        *(
            OSError("disk\nfull"),
            SyntaxError("bad"),
            ValueError("bad"),
            struct.error("bad"),
            IndexError("bad"),
        ),
        *(TypeError("bad"), KeyError("bad"), EOFError(), ZeroDivisionError("bad"), RuntimeError("bad")),
        *(MemoryError(), RecursionError("deep"), zlib.error("bad"), NotImplementedError("bad")),
    ],
)
def test_whatever_the_decoder_raises_becomes_one_line(
    error: Exception, tmp_path: Path, whole_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(image: object) -> None:
        raise error

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", broken)
    _refusal(_written(tmp_path, whole_files["jpeg"]))


def test_an_interrupt_is_not_swallowed(
    tmp_path: Path, whole_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(image: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", interrupted)
    before = list(warnings.filters)
    with pytest.raises(KeyboardInterrupt):
        read_image(_written(tmp_path, whole_files["jpeg"]))
    assert list(warnings.filters) == before


# --- not a readable file


def test_missing_files_folders_and_impossible_names_are_refused(tmp_path: Path) -> None:
    assert "found no such file" in _refusal(tmp_path / "missing.png")
    assert "found a folder" in _refusal(tmp_path)
    assert "found a path that cannot be read" in _refusal(tmp_path / ("x" * 5000))
    with pytest.raises(ImageError, match=r"a\\x00b: found a path that cannot be read"):
        read_image("a\0b")
    with pytest.raises(ImageError, match=r"caf\\xe9: found no such file"):
        read_image(b"caf\xe9".decode("utf-8", "surrogateescape"))
    with pytest.raises(ImageError, match=r"^two\\nlines: found no such file"):
        read_image("two\nlines")


@needs_posix
def test_a_pipe_or_device_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert "found a named pipe, socket or device" in _refusal(pipe)
    assert "found a named pipe, socket or device" in _refusal(Path("/dev/zero"))


@needs_posix
def test_a_pipe_put_in_the_files_place_is_refused_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, file = tmp_path / "pipe.png", _written(tmp_path, b"a")
    os.mkfifo(pipe)
    status = os.stat(file)
    monkeypatch.setattr(reading, "os", SimpleNamespace(**{**vars(os), "stat": lambda path: status}))
    assert "found a named pipe, socket or device" in _refusal(pipe)


@contextmanager
def _as_ordinary_user() -> Iterator[None]:
    """Step down from root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@needs_posix
def test_a_file_without_permission_is_refused(tmp_path: Path, whole_files: dict[str, bytes]) -> None:
    path = _written(tmp_path, whole_files["png"])
    path.chmod(0)
    with _as_ordinary_user():
        assert "without permission" in _refusal(path)


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, whole_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _written(tmp_path, whole_files["png"])
    fstat = os.fstat

    def grown(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        with open(path, "ab") as file:
            file.write(b"more")
        return status

    monkeypatch.setattr(reading, "os", SimpleNamespace(**{**vars(os), "fstat": grown}))
    assert "changed while it was read" in _refusal(path)


def test_the_file_is_opened_once_and_closed(
    tmp_path: Path, whole_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = _written(tmp_path, whole_files["tiff-tiff_lzw"]), []
    real_open = os.open

    def counted(name: str, flags: int) -> int:
        opened.append(real_open(name, flags))
        return opened[-1]

    monkeypatch.setattr(reading, "os", SimpleNamespace(**{**vars(os), "open": counted}))
    read_image(path)
    assert len(opened) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


# --- several threads


def test_readers_in_threads_agree_and_leave_the_warning_filters_alone(
    tmp_path: Path, whole_files: dict[str, bytes]
) -> None:
    paths = [_written(tmp_path, data, name) for name, data in whole_files.items()]
    paths += [_written(tmp_path, data[:-40], f"cut-{name}") for name, data in whole_files.items()]
    # a corrupt EXIF block and a palette with several transparent entries make Pillow warn
    noisy = tmp_path / "noisy.jpg"
    Image.new("RGB", (8, 8)).save(noisy, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    paths.append(noisy)

    def outcome(path: Path) -> tuple[int, str]:
        try:
            return 1, hashlib.sha256(read_image(path).image.tobytes()).hexdigest()
        except ImageError as error:
            return 0, str(error)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        alone = [outcome(path) for path in paths]
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(outcome, paths * 3))
        assert list(warnings.filters) == before
    assert together == alone * 3
    assert [str(warning.message) for warning in caught] == []


def test_overlapping_readers_restore_the_filters_when_the_last_one_leaves() -> None:
    before, inside, leave = list(warnings.filters), threading.Event(), threading.Event()

    def stay() -> None:
        with decoders_silenced():
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=stay)
    with decoders_silenced():
        other.start()
        inside.wait(10)
    assert list(warnings.filters) != before  # the other one still reads
    leave.set()
    other.join()
    assert list(warnings.filters) == before


def test_only_the_decoders_warnings_are_silenced() -> None:
    with decoders_silenced(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_the_decoders_logging_is_silenced_for_the_thread_that_reads_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("tifffile")
    with decoders_silenced():
        logger.warning("mine")
        other = threading.Thread(target=lambda: logger.warning("another thread's"))
        other.start()
        other.join()
        logging.getLogger("users").warning("the user's")
    logger.warning("later")
    assert [record.getMessage() for record in caplog.records] == ["another thread's", "the user's", "later"]


@pytest.mark.parametrize(("kind", "feature"), [("WEBP", "webp"), ("AVIF", "avif")])
def test_webp_and_avif_are_read_with_their_transparency_and_of_animations_the_first_frame(
    kind: str, feature: str, tmp_path: Path
) -> None:
    if not features.check(feature):
        pytest.skip(f"this Pillow is built without {kind}")
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    clear.paste((200, 30, 30, 255), (8, 0, 16, 16))
    path = tmp_path / "a.img"
    clear.save(path, kind, quality=100)
    shown = np.asarray(read_image(path).image).astype(int)
    np.testing.assert_allclose(shown[8, [2, 13]], [[255, 255, 255], [200, 30, 30]], atol=8)
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    red.save(path, kind, save_all=True, append_images=[blue])
    picture = read_image(path)
    assert (picture.pages, picture.notes) == (1, ())
    np.testing.assert_allclose(np.asarray(picture.image).astype(int)[8, 8], [255, 0, 0], atol=8)


def test_pictures_can_be_saved_in_any_format_without_what_the_file_carried(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (2, 2)).save(path, icc_profile=b"profile")
    copy = io.BytesIO()
    read_image(path).image.save(copy, "PNG")
    assert "icc_profile" not in Image.open(copy).info
