"""A target as it is typed: ``top``, ``281``, ``tabby``, ``tabby-lynx``, ``mask:3``, ``text:a cat``."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TypeAlias, get_args

from torch import Tensor

from whycam.errors import TargetError
from whycam.targets import (
    BoxCoordinate,
    BoxScore,
    ClassIndex,
    Contrast,
    Finer,
    Probability,
    Rank,
    SegmentationClass,
    Side,
    Similarity,
    Target,
    TopClass,
    Value,
)

EmbedText: TypeAlias = Callable[[str], Tensor]
FORMS = (
    "top, a class's index or name, rank:2, A-B (why A rather than B), finer:A, prob:A, sigmoid:A, mask:A, "
    "box:1, box:1:left, value:0, -value:0, or text:WORDS"
)


def parse_target(text: str, class_names: Sequence[str] | None, embed_text: EmbedText | None = None) -> Target:
    """Read a target.

    A name counts without regard to case, and so does one of several with commas between them, as
    ImageNet's classes have. ``index:`` and ``name:`` say which is meant where a name is a number, or holds
    what stands for something else. ``text:`` is followed by any words, whose embedding the image's is
    compared with; ``embed_text`` gives it, and where it is given there are no classes. Raises TargetError
    where nothing or more than one thing is meant.
    """
    names = tuple(class_names or ())
    kind, colon, rest = text.strip().partition(":")
    if colon and kind == "text":
        return _text_target(rest.strip(), embed_text)
    if embed_text is not None:
        raise TargetError(
            f"target {text!r} is of a class, and an image-text model has none; compare with words, such as "
            "text:a photo of a cat"
        )
    if colon and kind in _KINDS:
        return _KINDS[kind](rest.strip(), names)
    found = _single(text.strip(), names)
    if found is not None:
        return found
    contrasts = _contrasts(text.strip(), names)
    if len(contrasts) > 1:
        raise TargetError(
            f"target {text!r} can be cut into two classes in {len(contrasts)} ways; give indices, such as 3-5"
        )
    if not contrasts:
        raise TargetError(_unknown(text, names))
    return contrasts[0]


def with_names(described: str, class_names: Sequence[str] | None) -> str:
    """Return a target's description with each class's name behind its index: ``class 2 (tabby)``."""
    names = class_names or ()

    def named(match: re.Match[str]) -> str:
        index = int(match[1])
        return f"{match[0]} ({names[index]})" if index < len(names) else match[0]

    return re.sub(r"\bclass (\d+)", named, described)


def _text_target(words: str, embed_text: EmbedText | None) -> Target:
    if embed_text is None:
        raise TargetError(
            f"target 'text:{words}' needs an image-text model, such as open_clip:ViT-B-32; this one knows no "
            "texts; give a class"
        )
    if not words:
        raise TargetError("target 'text:' has no words behind it; write text:a photo of a cat")
    return Similarity(embed_text(words), repr(words))


def _class_target(text: str, names: Sequence[str]) -> Target:
    found = _single(text.strip(), names)
    if found is None:
        raise TargetError(_unknown(text, names))
    return found


def _mask(text: str, names: Sequence[str]) -> Target:
    found = _class_target(text, names)
    if not isinstance(found, ClassIndex):
        raise TargetError(f"target 'mask:{text}' names no one class; write mask: and its index or name")
    return SegmentationClass(found.index)


def _box(text: str, names: Sequence[str]) -> Target:
    rank, colon, side = text.partition(":")
    sides = {name: BoxCoordinate(name, _number(rank, "box")) for name in get_args(Side)}
    if colon and side not in sides:
        raise TargetError(f"target 'box:{text}' has the side {side!r}; expected {', '.join(sides)}")
    return sides[side] if colon else BoxScore(_number(rank, "box"))


def _number(text: str, kind: str) -> int:
    if not text.isdecimal():
        raise TargetError(f"target '{kind}:{text}' has no whole number behind {kind}:; write {kind}:1")
    return int(text)


def _value(text: str, names: Sequence[str], kind: str) -> Target:
    index = _number(text, kind)
    if len(names) > 1:
        meant = f", such as index:{index} ({names[index]})" if index < len(names) else ""
        raise TargetError(
            f"target '{kind}:{text}' is a number of a regression model, and this one has {len(names)} "
            f"classes; give a class{meant}"
        )
    return Value(index, lower=kind == "-value")


# What stands before a colon where the rest is no target of a class by itself.
_KINDS: dict[str, Callable[[str, Sequence[str]], Target]] = {
    "finer": lambda text, names: Finer(_class_target(text, names)),
    "prob": lambda text, names: Probability(_class_target(text, names)),
    "sigmoid": lambda text, names: Probability(_class_target(text, names), activation="sigmoid"),
    "mask": _mask,
    "box": _box,
    "value": lambda text, names: _value(text, names, "value"),
    "-value": lambda text, names: _value(text, names, "-value"),
}


def _single(text: str, names: Sequence[str]) -> Target | None:
    """Return the target of one class, or None where the text is none."""
    kind, colon, rest = text.partition(":")
    if text == "top":
        return TopClass()
    if colon and kind in ("rank", "index"):
        if not rest.isdecimal():
            raise TargetError(f"target {text!r} has no whole number behind {kind}:; write {kind}:2")
        return Rank(int(rest)) if kind == "rank" else ClassIndex(int(rest))
    if colon and kind == "name":
        index = _index_of(rest, names)
        if index is None:
            raise TargetError(_unknown(rest, names))
        return ClassIndex(index)
    index = _index_of(text, names)
    if text.isdecimal():
        if index not in (None, int(text)):
            raise TargetError(
                f"target {text!r} is an index, and the name of class {index}; "
                f"write index:{text} or name:{text}"
            )
        return ClassIndex(int(text))
    return None if index is None else ClassIndex(index)


def _index_of(text: str, names: Sequence[str]) -> int | None:
    wanted = text.strip().casefold()
    if not wanted:
        return None
    whole = [index for index, name in enumerate(names) if name.casefold() == wanted]
    part = [
        index
        for index, name in enumerate(names)
        if wanted in (piece.strip().casefold() for piece in name.split(","))
    ]
    found = whole or part
    if len(found) > 1:
        raise TargetError(
            f"{text!r} is the name of classes {', '.join(map(str, found[:5]))}; give the index that is meant"
        )
    return found[0] if found else None


def _contrasts(text: str, names: Sequence[str]) -> list[Contrast]:
    """Return every way to cut the text at a hyphen into two targets; names may hold hyphens themselves."""
    cuts = [place for place, character in enumerate(text) if character == "-"]
    sides = [(_single(text[:cut].strip(), names), _single(text[cut + 1 :].strip(), names)) for cut in cuts]
    return [Contrast(of, against) for of, against in sides if of is not None and against is not None]


def _unknown(text: str, names: Sequence[str]) -> str:
    if not names:
        return f"target {text!r} is none of {FORMS}; names of classes need --classes FILE"
    near = get_close_matches(text, names, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"expected {FORMS}"
    return f"target {text!r} is no class of this model; {hint}"
