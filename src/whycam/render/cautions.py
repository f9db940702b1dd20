"""What must be said on a picture itself, because pictures travel without their run folder."""

import math

from PIL import Image, ImageDraw

from whycam.render.overlays import as_rgb
from whycam.render.text import ASCENT, draw_text, line_height, wrap

SMALLEST_WIDTH = 120
"""In pixels: a narrower picture is put on a wider ground, or no word of a caution would fit below it."""

GROUND, INK = "#ffffff", "#8a1c00"


def with_caution(picture: Image.Image, caution: str | None) -> Image.Image:
    """Return the picture with a text on a strip below it, or the picture itself where there is no text.

    The picture's own pixels stay where they are, from the top left corner on. Raises UsageError for a
    picture that is not RGB or gray. Issues a MissingGlyphWarning for text that no font has.
    """
    if caution is None:
        return picture
    width = max(picture.width, SMALLEST_WIDTH)
    size = max(10.0, width / 48)
    margin = size / 2
    lines = wrap(caution, width - 2 * margin, size)
    canvas = Image.new("RGB", (width, picture.height + math.ceil(len(lines) * line_height(size))), GROUND)
    canvas.paste(as_rgb(picture), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        baseline = picture.height + number * line_height(size) + ASCENT * size
        draw_text(draw, (margin, baseline), line, size=size, fill=INK)
    return canvas
