"""Which pictures a run is about: files, folders, globs and CSV lists -> one item a picture."""

import dataclasses
import functools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from whycam.data.manifest import Row, read_rows
from whycam.data.pages import refuse_odd_page, split_page, with_page
from whycam.data.printable import printable
from whycam.data.refusal import RefusedError
from whycam.data.walking import ANY_DEPTH, Found, walk
from whycam.errors import UsageError

IMAGE_SUFFIXES = frozenset(
    {
        *(
            ".png",
            ".apng",
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".mpo",
            ".webp",
            ".gif",
            ".tif",
            ".tiff",
            ".bmp",
        ),
        *(".avif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        *(".btf", ".tf8", ".dcm", ".dicom", ".nii", ".nii.gz"),
    }
)
_PACKED = ".gz"
_WILDCARDS = frozenset("*?[")

_Items = Generator["ImageItem", None, None]
_Lister = Callable[[], _Items]


@dataclass(frozen=True)
class ImageItem:
    """A picture to be read, or an entry that names none.

    ``id`` is unique in a run, printable, and depends only on the sources and the file's name, never on
    what else is found: the path as it was given, with ``/`` between the names. Where a folder or a CSV
    list is the only source, it is the path from that folder, or the path as the list has it; a list's own
    ``id`` column goes before that. ``path`` is
    as `whycam.data.read_image` takes it: a page that was asked for is named in it and in the id, as
    ``FILE#page=N``.
    ``label`` comes from a CSV list alone. ``error`` is one line, and set where there is nothing to look
    for: a row without a path, a folder that cannot be listed; ``path`` is then that list or folder.
    """

    id: str
    path: Path
    label: str | None = None
    error: str | None = None


def find_images(sources: Sequence[str | Path]) -> Iterator[ImageItem]:
    """Yield the pictures of all sources, one at a time, in the order given and each file once.

    - A file is tried whatever its suffix; ``FILE#page=N`` is one page of it, counted from 0. With the suffix
      ``.csv`` it is a list with a ``path`` column, relative to the list's folder, and optional ``label``,
      ``page`` and ``id`` columns. Its paths are the user's own: ``..``, absolute ones and links are followed.
    - A folder is searched to any depth for files with an image suffix, in natural order (img2 before
      img10). Hidden names are skipped. Folders by class do not make labels.
    - A glob (``*``, ``?``, ``[...]``, ``**`` for any depth) that is not itself a file finds files with an
      image suffix, or with the suffix that it spells out, and searches the folders that it matches.

    A file that several sources, names or links reach comes with its first mention. No picture is opened.
    Each source is checked at the call, up to its first picture; the rest is looked for as it is needed, a
    folder at a time.

    Raises:
        UsageError: there is no source, one does not exist, cannot be listed or yields nothing, or a CSV
            list has no ``path`` column; one line with the mend.
    """
    if isinstance(sources, str):
        raise UsageError(
            f"found the single source {_quoted(sources)}, expected a sequence of them; put it in a list"
        )
    names = [os.fspath(source) for source in sources]
    if not names:
        raise UsageError("found no source, expected pictures; name files, folders, globs or CSV lists")
    listers = [_checked_lister(name, only=len(names) == 1) for name in names]
    return _once_each(item for lister in listers for item in lister())


def _checked_lister(source: str, *, only: bool) -> _Lister:
    """Return what lists the source, after a look at its first item."""
    lister = functools.partial(_listed, source, _lister(source, only=only))
    with closing(lister()) as items:
        if next(items, None) is None:
            raise UsageError(
                f"{_quoted(source)}: found no pictures in it, expected at least one; {_mend(source)}"
            )
    return lister


def _lister(source: str, *, only: bool) -> _Lister:
    path = Path(source)
    if source and os.path.isdir(path):
        return functools.partial(_folder_items, path, "" if only else source)
    if source and os.path.exists(path):
        if path.suffix.lower() == ".csv" and os.path.isfile(path):
            return functools.partial(_list_items, path, only=only)
        return functools.partial(_file_item, path)
    if source and os.path.isfile(split_page(source)[0]):
        return functools.partial(_file_item, path)
    try:
        refuse_odd_page(path)
    except RefusedError as refused:
        raise UsageError(
            f"{_quoted(source)}: found {refused.found}, expected pictures; {refused.mend}"
        ) from refused
    if _WILDCARDS & set(source):
        return functools.partial(_glob_items, path)
    raise UsageError(f"{_quoted(source)}: found no such file or folder, expected pictures; check the path")


def _listed(source: str, lister: _Lister) -> _Items:
    try:
        yield from lister()
    except OSError as error:
        found = f"something that cannot be opened ({error.strerror})"
        raise UsageError(
            f"{_quoted(source)}: found {found}, expected pictures; check its permissions"
        ) from error


def _mend(source: str) -> str:
    if Path(source).suffix.lower() == ".csv":
        return "add a row for each picture under the header"
    return "check the path, or name files of another suffix one by one"


def _file_item(path: Path) -> _Items:
    yield ImageItem(_as_id(path), path)


def _folder_items(folder: Path, prefix: str) -> _Items:
    for found in walk(str(folder)):
        if found.error or has_image_suffix(found.relative):
            yield _found_item(found, folder, prefix)


def _glob_items(glob: Path) -> _Items:
    first = next(place for place, part in enumerate(glob.parts) if _WILDCARDS & set(part))
    root, pattern = Path(*glob.parts[:first]), glob.parts[first:]
    if not os.path.isdir(root):  # unlike Path.is_dir it takes a name that no file can have
        return
    # a folder that the glob matches is searched like a folder given by name
    for found in walk(str(root), (*pattern, ANY_DEPTH)):
        path = root / found.relative
        if found.error or has_image_suffix(found.relative):
            yield _found_item(found, root, str(root))
        elif _spells_out_suffix(pattern[-1]) and fnmatch(path.name, pattern[-1]):
            yield from _list_items(path, only=False) if path.suffix.lower() == ".csv" else _file_item(path)


def _found_item(found: Found, root: Path, prefix: str) -> ImageItem:
    error = found.error and f"found {found.error}, expected pictures in it; check its permissions"
    return ImageItem(_as_id(Path(prefix, found.relative)), root / found.relative, error=error)


def _list_items(table: Path, *, only: bool) -> _Items:
    prefix = Path() if only else table.parent
    for row in read_rows(table):
        yield _row_item(row, table, prefix)


def _row_item(row: Row, table: Path, prefix: Path) -> ImageItem:
    if row.error:
        return ImageItem(f"{_as_id(table)}:{row.line}", table, row.label, f"found {row.error}")
    name = Path(row.path) if row.page is None else with_page(Path(row.path), row.page)
    return ImageItem(printable(row.id) if row.id else _as_id(prefix / name), table.parent / name, row.label)


def _once_each(items: Iterable[ImageItem]) -> Iterator[ImageItem]:
    files: set[str] = set()
    ids: set[str] = set()
    real_folder = functools.lru_cache(os.path.realpath)
    for item in items:
        if item.error is None:
            file = _identity(item.path, real_folder)
            if file in files:
                continue
            files.add(file)
        # two names that differ in an unprintable character only may look the same
        unique, copies = item.id, 1
        while unique in ids:
            copies += 1
            unique = f"{item.id} ({copies})"
        ids.add(unique)
        yield item if unique == item.id else dataclasses.replace(item, id=unique)


def _identity(path: Path, real_folder: Callable[[str], str]) -> str:
    """Return the same text for all names that lead to one page of one file through links."""
    path, page = split_page(path)
    file = os.path.join(real_folder(str(path.parent)), path.name)
    real = os.path.normcase(os.path.realpath(file) if path.name == ".." or os.path.islink(file) else file)
    return real if page is None else str(with_page(Path(real), page))


def has_image_suffix(name: str) -> bool:
    """Say whether the file's name ends as a picture's or a volume's does."""
    stem, suffix = os.path.splitext(name.lower())
    whole = os.path.splitext(stem)[1] + suffix if suffix == _PACKED else suffix
    return whole in IMAGE_SUFFIXES


def _spells_out_suffix(part: str) -> bool:
    suffix = os.path.splitext(part)[1]
    return bool(suffix) and not _WILDCARDS & set(suffix)


def _as_id(path: Path) -> str:
    return printable(path.as_posix())


def _quoted(source: str) -> str:
    return f"'{printable(source)}'"
