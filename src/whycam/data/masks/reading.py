"""Which kind of source true masks come from."""

import os
from pathlib import Path

from whycam.data.masks.boxes import BoxList
from whycam.data.masks.coco import CocoMasks
from whycam.data.masks.folder import MaskFolder
from whycam.data.masks.source import MaskSource, source_error
from whycam.errors import UsageError

_EXPECTED = "a folder of masks, a COCO .json file or a .csv list of boxes"


def read_masks(source: str | Path, category: str | int | None = None) -> MaskSource:
    """Open a source of true masks: a folder, a COCO instances file, or a CSV list of boxes.

    - A folder holds a picture or ``.npy`` file an image, with the image's path, id or name and any suffix,
      ``_mask``, ``-mask``, ``_seg``, ``_segmentation`` or ``_gt`` before it or not. Only names are kept.
    - A ``.json`` file is COCO's: outlines, runs or boxes, joined over an image's objects; of one
      ``category`` only where its name or id is given.
    - A ``.csv`` list has a ``path`` (or ``file_name``) column and four for a box.

    ``docs/masks.md`` says what becomes of each odd case.

    Raises:
        UsageError: there is no such source, it is none of the three, broken, or without any mask.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if not os.path.exists(path):
        raise source_error(path, "no such file or folder", _EXPECTED, "check the path")
    is_folder = os.path.isdir(path)
    if suffix == ".json" and not is_folder:
        return CocoMasks(path, category)
    if category is not None:
        raise UsageError(
            f"found the category {category!r} for masks that have none; expected a COCO file; leave it out"
        )
    if is_folder:
        return MaskFolder(path)
    if suffix == ".csv":
        return BoxList(path)
    raise source_error(path, "something else", _EXPECTED, "name the folder, or a file with its suffix")
