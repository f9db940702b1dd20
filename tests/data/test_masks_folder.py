import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.refused import one_line

from whycam.data import find_images, read_image
from whycam.data.masks import read_masks
from whycam.data.masks.source import Mask
from whycam.demo import demo_images, demo_masks
from whycam.errors import ImageError, UsageError

OBJECT = np.zeros((6, 8), dtype=np.bool_)
OBJECT[1:4, 2:7] = True
GREY = OBJECT.astype(np.uint8) * 255


def _put(path: Path, values: np.ndarray = GREY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


def _mask(folder: Path, item_id: str = "1.jpg", path: str | None = None) -> Mask | None:
    return read_masks(folder).of(item_id, path or item_id, (6, 8))


def _refusal(folder: Path, item_id: str = "1.jpg", path: str | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        _mask(folder, item_id, path)
    return one_line(caught)


def _source_refusal(source: Path, category: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        read_masks(source, category)
    return one_line(caught)


def test_the_demos_masks_are_found_for_its_images() -> None:
    source = read_masks(demo_masks()[0].parent)
    folder = demo_images()[0].parent
    for item, truth in zip(find_images([folder]), demo_masks(), strict=True):
        width, height = read_image(item.path).image.size
        mask = source.of(item.id, str(item.path), (height, width))
        assert mask is not None
        assert (mask == np.asarray(Image.open(truth))).all()
        assert 0 < mask.mean() < 0.5
    assert "mask pictures: 24" in source.describe()


@pytest.mark.parametrize(
    ("mask", "item_id", "path"),
    [
        ("cat/1.png", "cat/1.jpg", "/data/cat/1.jpg"),
        ("cat/1.png", "1.jpg", "photos/cat/1.jpg"),
        ("1.npy", "cat/1.jpg", "/data/cat/1.jpg"),
        ("1.jpg.png", "1.jpg", "1.jpg"),
        ("1_mask.png", "1.jpg", "1.jpg"),
        ("cat/1_segmentation.png", "cat/1.jpg", "1.jpg"),
        ("case 7.png", "case 7", "a/0007.jpg"),
        ("猫 咪/图 一.png", "猫 咪/图 一.jpg", "图 一.jpg"),
        ("café.png", "cafe\u0301.jpg", "x.jpg"),
        ("b/1.png", "../a/../b/1.jpg", "../a/../b/1.jpg"),
        ("scan.tif#page=2.png", "scan.tif#page=2", "scan.tif#page=2"),
    ],
)
def test_a_mask_has_its_images_path_id_or_name(tmp_path: Path, mask: str, item_id: str, path: str) -> None:
    _put(tmp_path / mask)
    found = _mask(tmp_path, item_id, path)
    assert found is not None
    assert (found == OBJECT).all()


@pytest.mark.parametrize(
    ("mask", "item_id"),
    [
        ("dog/1.png", "cat/1.jpg"),
        ("1.png", "11.jpg"),
        ("scan.png", "scan.v2"),
        ("scan.png", "scan.tif#page=2"),
        ("a/1.png", "a/../1.jpg"),
    ],
)
def test_another_images_mask_is_not_taken(tmp_path: Path, mask: str, item_id: str) -> None:
    _put(tmp_path / mask)
    assert _mask(tmp_path, item_id) is None


def test_the_mask_of_the_images_own_folder_goes_before_one_of_its_name(tmp_path: Path) -> None:
    _put(tmp_path / "cat" / "1.png")
    _put(tmp_path / "1.png", np.zeros_like(GREY))
    found = _mask(tmp_path, "cat/1.jpg")
    assert found is not None
    assert found.any()


def test_two_masks_of_one_image_are_both_named(tmp_path: Path) -> None:
    _put(tmp_path / "1.png")
    _put(tmp_path / "1_mask.npy")
    line = _refusal(tmp_path)
    assert "'1.png' and '1_mask.npy'" in line


def test_a_picture_beside_its_mask_is_not_its_own_mask(tmp_path: Path) -> None:
    picture = _put(tmp_path / "1.png", np.full_like(GREY, 9))
    assert _mask(tmp_path, "1.png", str(picture)) is None
    _put(tmp_path / "1_mask.png")
    found = _mask(tmp_path, "1.png", str(picture))
    assert found is not None
    assert (found == OBJECT).all()


def _palette(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values).convert("L")
    picture = Image.new("P", image.size)
    picture.putdata(list(values.flatten().tolist()))
    picture.putpalette([255, 255, 255, 0, 0, 0] + [0] * 762)  # colours that say the opposite of the indices
    return picture


def _cut_out(values: np.ndarray) -> Image.Image:
    return Image.merge("LA", (Image.new("L", (8, 6), 0), Image.fromarray(values)))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("1.png", lambda: Image.fromarray(OBJECT)),
        ("1.png", lambda: Image.fromarray(OBJECT.astype(np.uint8))),
        ("1.png", lambda: Image.fromarray(OBJECT.astype(np.uint16) * 300)),
        ("1.png", lambda: _palette(OBJECT.astype(np.uint8))),
        ("1.png", lambda: _cut_out(GREY)),
        ("1.png", lambda: Image.fromarray(np.stack([GREY * 0, GREY * 0, GREY // 255], axis=2))),
        ("1.tif", lambda: Image.fromarray(OBJECT.astype(np.float32))),
        ("1.bmp", lambda: Image.fromarray(GREY)),
        ("1.gif", lambda: Image.fromarray(GREY)),
        ("1.jpg", lambda: Image.fromarray(GREY)),
    ],
    ids=["1 bit", "labels", "16 bits", "palette", "alpha", "colours", "floats", "bmp", "gif", "jpeg"],
)
def test_what_is_not_0_is_the_object(tmp_path: Path, name: str, make: Callable[[], Image.Image]) -> None:
    make().save(tmp_path / name, **({"quality": 95} if name.endswith("jpg") else {}))
    found = _mask(tmp_path, "1.png", "elsewhere/1.png")
    assert found is not None
    assert (found == OBJECT).all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", ">u2", "float32"])
def test_an_array_of_any_number_is_a_mask(tmp_path: Path, dtype: str) -> None:
    _put(tmp_path / "1.npy", np.asfortranarray(OBJECT.astype(dtype)))
    assert (_mask(tmp_path) == OBJECT).all()
    _put(tmp_path / "1.npy", OBJECT.astype(dtype)[None])
    assert (_mask(tmp_path) == OBJECT).all()


def test_255_above_other_labels_is_void(tmp_path: Path) -> None:
    labels = OBJECT.astype(np.uint8) * 15
    labels[4, 2:7] = 255
    _put(tmp_path / "grey.png", labels)
    _put(tmp_path / "array.npy", labels.astype(np.int32))
    _palette(labels).save(tmp_path / "palette.png")
    for name in ("grey", "array", "palette"):
        assert (_mask(tmp_path, name) == OBJECT).all()
    assert "255 above other labels is void" in read_masks(tmp_path).describe()


def test_a_palettes_255_is_void_however_much_there_is_of_it(tmp_path: Path) -> None:
    _palette(np.where(OBJECT, 15, 255).astype(np.uint8)).save(tmp_path / "1.png")
    assert (_mask(tmp_path) == OBJECT).all()


def test_a_grey_mask_with_a_soft_border_keeps_its_255(tmp_path: Path) -> None:
    soft = GREY.copy()
    soft[4, 2:7] = 90
    _put(tmp_path / "1.png", soft)
    assert (_mask(tmp_path) == (soft > 0)).all()


def test_a_mask_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(GREY).copy()).save(tmp_path / "1.png", exif=exif)
    assert (_mask(tmp_path) == OBJECT).all()


def test_a_smaller_mask_of_the_same_aspect_is_enlarged(tmp_path: Path) -> None:
    _put(tmp_path / "1.png", np.eye(3, 4, dtype=np.uint8))
    assert (_mask(tmp_path) == np.eye(3, 4).repeat(2, axis=0).repeat(2, axis=1)).all()


@pytest.mark.parametrize(
    ("size", "mend"), [((6, 12), "export the mask at the picture's size"), ((8, 6), "EXIF orientation")]
)
def test_a_mask_of_another_aspect_is_refused(tmp_path: Path, size: tuple[int, int], mend: str) -> None:
    _put(tmp_path / "1.png", np.ones(size, dtype=np.uint8))
    line = _refusal(tmp_path)
    assert f"{size[1]} x {size[0]} pixels" in line
    assert "8 x 6 pixels" in line
    assert mend in line


def _png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def _pages() -> bytes:
    file = io.BytesIO()
    page = Image.fromarray(GREY)
    page.save(file, "TIFF", save_all=True, append_images=[page])
    return file.getvalue()


def _dim_jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY // 16).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty file"),
        (b"no picture at all", "something else"),
        (_png(GREY)[:-20], "PNG file"),
        (b"II*\0nothing", "header"),
        (_pages(), "2 pages"),
        (_dim_jpeg(), "in a format that changes them"),
        (_npy(GREY)[:-1], "47 bytes for 48 values"),
        (_npy(GREY)[:20], "broken .npy"),
        (_npy(GREY).replace(b"(6, 8)", b"(1<<9)"), "broken .npy"),
        (_npy(GREY).replace(b"(6, 8), ", b"(99999, 99999), "), "above the limit"),
        (_npy(np.array([{}], dtype=object)), "of object"),
        (_npy(np.ones((6, 8, 3))), r"[6, 8, 3]"),
        (_npy(np.where(OBJECT, np.nan, 0)), "not finite"),
        (_npy(OBJECT * -1), "the value -1"),
        (b"\x93NUMPY\x09\x00" + pickle.dumps(GREY), "version (9, 0)"),
    ],
)
def test_a_broken_mask_is_one_line(tmp_path: Path, data: bytes, found: str) -> None:
    (tmp_path / "1.png").write_bytes(data)
    assert found in _refusal(tmp_path)


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no mask")
    (tmp_path / ".hidden.png").write_bytes(_png(GREY))
    assert "found no mask" in _source_refusal(tmp_path)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in _source_refusal(tmp_path / "图 片\n\x1b[31m")
    assert "something else" in _source_refusal(_put(tmp_path / "1.png"))
    assert "category 'cat'" in _source_refusal(tmp_path, "cat")
