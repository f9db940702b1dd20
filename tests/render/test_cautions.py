import numpy as np
import pytest
from PIL import Image

from whycam.render import with_caution
from whycam.render.text import line_height, wrap

CAUTION = "partly random weights: 60 of 62 loaded"


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_without_a_caution_the_picture_is_the_very_same():
    picture = noise(5, 7)
    assert with_caution(picture, None) is picture


@pytest.mark.parametrize("size", [(1, 1), (32, 20), (96, 96), (70, 150), (300, 451), (768, 512)])
def test_the_picture_keeps_its_pixels_and_the_text_stands_below_it(size):
    picture = noise(*size)
    drawn = with_caution(picture, CAUTION)
    pixels = np.asarray(drawn)
    assert np.array_equal(pixels[: size[0], : size[1]], np.asarray(picture))
    strip = pixels[size[0] :]
    dark = strip.min(axis=2) < 128
    assert dark.any(axis=1).sum() >= 6
    # nothing is cut off: a clear rim on all sides
    assert not dark[[0, -1]].any()
    assert not dark[:, [0, 1, -2, -1]].any()
    assert (pixels[: size[0], size[1] :] == 255).all()


@pytest.mark.parametrize("width", [20, 120, 224, 768])
def test_no_word_is_lost_and_the_strip_stays_small(width):
    drawn = with_caution(noise(200, width), CAUTION)
    em = max(10.0, drawn.width / 48)
    lines = wrap(CAUTION, drawn.width - em, em)
    assert " ".join(lines) == CAUTION
    assert drawn.height == 200 + np.ceil(len(lines) * line_height(em))
    assert drawn.height <= 200 + 0.5 * drawn.width


def test_a_gray_picture_is_drawn_on_as_rgb():
    assert with_caution(Image.new("L", (9, 9)), CAUTION).mode == "RGB"
