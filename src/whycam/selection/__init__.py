"""Which checkpoint of a folder is best: ranked on one split, whose images are read once for all of them."""

from whycam.selection.request import MEMORY, SelectRequest
from whycam.selection.select import Progress, Selection, select_checkpoints
from whycam.selection.written import document_of

__all__ = ["MEMORY", "Progress", "SelectRequest", "Selection", "document_of", "select_checkpoints"]
