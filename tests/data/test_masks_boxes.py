from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from tests.data.refused import one_line

from whycam.data.masks import MaskSource, read_masks
from whycam.errors import ImageError, UsageError

OBJECT = np.zeros((6, 8), dtype=np.bool_)
OBJECT[1:4, 2:7] = True


def _source(folder: Path, text: str | bytes) -> MaskSource:
    file = folder / "boxes.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_masks(file)


@pytest.mark.parametrize(
    "text",
    [
        "path,top,left,bottom,right\n1.jpg,1,2,4,7\n",
        "file_name,label,xmin,ymin,xmax,ymax\n1.jpg,cat,2,1,7,4\n",
        "path, x, y, w, h\r\n1.jpg, 2, 1, 5, 3\r\n\r\n",
        "\ufeffPath,X,Y,Width,Height\n1.jpg,1.6,0.6,5.0,3.0\n",
        "path,top,left,bottom,right\n1.jpg,1,2,4,4.2\n2.jpg,0,0,6,8\n1.jpg,1e0,3.9,4,7\n",
    ],
    ids=["top", "xmin", "lengths", "floats", "two boxes"],
)
def test_boxes_are_read_under_each_header(tmp_path: Path, text: str) -> None:
    assert (_source(tmp_path, text).of("1.jpg", "photos/1.jpg", (6, 8)) == OBJECT).all()


def test_a_box_is_clipped_to_the_picture(tmp_path: Path) -> None:
    source = _source(tmp_path, "path,top,left,bottom,right\n1.jpg,-9,5,2.4,99\n")
    mask = source.of("1.jpg", "1.jpg", (6, 8))
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[row, column] for row in (0, 1) for column in (5, 6, 7)]


def test_a_box_outside_of_the_picture_is_refused_with_its_line(tmp_path: Path) -> None:
    source = _source(tmp_path, "path,x,y,w,h\n1.jpg,0,0,1,1\n1.jpg,8,0,4,4\n")
    with pytest.raises(ImageError, match=r"line 3 of 'boxes.csv'.* 8 x 6 pixels") as caught:
        source.of("1.jpg", "1.jpg", (6, 8))
    one_line(caught)


def test_a_row_without_a_box_is_an_image_without_an_object(tmp_path: Path) -> None:
    source = _source(tmp_path, "path,x,y,w,h\nnone.jpg,,,,\n1.jpg,2,1,5,3\n")
    mask = source.of("none.jpg", "none.jpg", (6, 8))
    assert mask is not None
    assert not mask.any()
    assert source.of("other.jpg", "other.jpg", (6, 8)) is None


def test_images_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    source = _source(tmp_path, "path,x,y,w,h\n猫 咪/1.jpg,2,1,5,3\n../dog/1.jpg,0,0,1,1\n")
    assert (source.of("猫 咪/1.jpg", "1.jpg", (6, 8)) == OBJECT).all()
    dog = source.of("dog/1.jpg", "dog/1.jpg", (6, 8))
    assert dog is not None
    assert dog.sum() == 1
    with pytest.raises(ImageError, match=r"'猫 咪/1.jpg' and '../dog/1.jpg'") as caught:
        source.of("1.jpg", "1.jpg", (6, 8))
    one_line(caught)


@pytest.mark.parametrize(
    ("listed", "path"),
    [
        (("/data/cat/1.jpg", "/data/dog/1.jpg"), "photos/cat/1.jpg"),
        (("1.jpg", "dog/1.jpg"), "photos/1.jpg"),
        (("cat/1.jpg", "1.jpg"), "photos/cat/1.jpg"),
    ],
    ids=["most folders", "whole path", "longest whole path"],
)
def test_of_several_names_the_one_that_agrees_most_is_taken(
    tmp_path: Path, listed: tuple[str, str], path: str
) -> None:
    source = _source(tmp_path, f"path,x,y,w,h\n{listed[0]},2,1,5,3\n{listed[1]},0,0,1,1\n")
    assert (source.of(path, path, (6, 8)) == OBJECT).all()


def test_the_record_has_the_lists_hash(tmp_path: Path) -> None:
    source = _source(tmp_path, "path,x,y,w,h\n1.jpg,2,1,5,3\n1.jpg,0,0,1,1\n")
    assert "2 boxes in 1 images" in source.describe()
    assert sha256((tmp_path / "boxes.csv").read_bytes()).hexdigest() in source.describe()


HEADER = "path,top,left,bottom,right\n1.jpg,1,2,4,7\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "0 bytes"),
        ("path,x,y,w,h\n", "no row"),
        ("image,x,y,w,h\n1.jpg,2,1,5,3\n", "the columns image, x, y, w, h"),
        ("path,x,y,xmax,ymax\n1.jpg,2,1,5,3\n", "the columns path, x, y, xmax, ymax"),
        ("path,x,y,w,h,top,left,bottom,right\n1.jpg,2,1,5,3,1,2,4,7\n", "the columns path, x"),
        ("path,x,x,y,w,h\n1.jpg,2,2,1,5,3\n", "the columns path, x, x"),
        (HEADER + "1.jpg,1,2,four,7\n", "a border that is no number in line 3"),
        (HEADER + "1.jpg,1,2,,7\n", "a border that is no number in line 3"),
        (
            HEADER + "1.jpg,1,2,nan,7\n",
            "a box without an area (top 1, left 2, bottom nan, right 7) in line 3",
        ),
        (HEADER + "1.jpg,1,2,inf,7\n", "in line 3"),
        (HEADER + "1.jpg,1,2,1e200,7\n", "in line 3"),
        (HEADER + "1.jpg,4,2,1,7\n", "a box without an area (top 4"),
        (HEADER + "1.jpg,1,2,4\n", "4 fields under 5 columns in line 3"),
        (HEADER + "a,b.jpg,1,2,4,7\n", "6 fields under 5 columns in line 3"),
        (HEADER + " ,1,2,4,7\n", "a row with an empty path in line 3"),
        (HEADER + "x" * 200_000 + ",1,2,4,7\n", "a row that is not CSV"),
        ("path,x,y,w,h\n中文.jpg,2,1,5,3\n".encode("gbk"), "text that is not UTF-8"),
        (b"path,x,y,w,h\n\x00\x01\x02\n", "in line 2"),
    ],
)
def test_a_broken_list_is_one_line(tmp_path: Path, text: str | bytes, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        _source(tmp_path, text)
    assert found in one_line(caught)
