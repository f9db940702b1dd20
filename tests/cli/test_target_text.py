"""A target's text means one thing or is refused with what it could mean."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whycam.cli.target_text import EmbedText, parse_target, with_names
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
    Target,
    TopClass,
    Value,
)

NAMES = ("tench, Tinca tinca", "T-shirt", "crane", "bee", "crane", "black-and-tan", "black", "7")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("top", TopClass()),
        (" top ", TopClass()),
        ("0", ClassIndex(0)),
        ("281", ClassIndex(281)),
        ("bee", ClassIndex(3)),
        ("BEE", ClassIndex(3)),
        ("tench", ClassIndex(0)),
        ("tench, tinca tinca", ClassIndex(0)),
        ("t-shirt", ClassIndex(1)),
        ("black-and-tan", ClassIndex(5)),
        ("index:7", ClassIndex(7)),
        ("name:7", ClassIndex(7)),
        ("name:bee", ClassIndex(3)),
        ("rank:2", Rank(2)),
        ("3-5", Contrast(ClassIndex(3), ClassIndex(5))),
        ("bee-top", Contrast(ClassIndex(3), TopClass())),
        ("top-rank:2", Contrast(TopClass(), Rank(2))),
        ("t-shirt-bee", Contrast(ClassIndex(1), ClassIndex(3))),
        ("bee - black-and-tan", Contrast(ClassIndex(3), ClassIndex(5))),
        ("prob:top", Probability(TopClass())),
        ("prob:bee", Probability(ClassIndex(3))),
        ("prob:t-shirt", Probability(ClassIndex(1))),
        ("finer:bee", Finer(ClassIndex(3))),
        ("sigmoid:bee", Probability(ClassIndex(3), activation="sigmoid")),
        ("sigmoid:top", Probability(TopClass(), activation="sigmoid")),
        ("box:1", BoxScore(1)),
        ("box:3", BoxScore(3)),
        ("box:2:left", BoxCoordinate("left", 2)),
        (" box:1:bottom ", BoxCoordinate("bottom", 1)),
    ],
)
def test_a_text_means_a_target(text: str, meant: Target) -> None:
    assert parse_target(text, NAMES) == meant


@pytest.mark.parametrize("names", [None, ["age"]])
@pytest.mark.parametrize(
    ("text", "meant"),
    [("value:0", Value(0)), ("value:4", Value(4)), ("-value:1", Value(1, lower=True))],
)
def test_a_value_is_a_target_of_a_model_without_classes(
    text: str, meant: Target, names: list[str] | None
) -> None:
    assert parse_target(text, names) == meant


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("crane", NAMES, "classes 2, 4; give the index"),
        ("value:3", NAMES, "such as index:3 .bee"),
        ("-value:0", NAMES, "a number of a regression model"),
        ("value:99", NAMES, f"has {len(NAMES)} classes; give a class"),
        ("beee", NAMES, "did you mean 'bee'"),
        ("bee", None, "--classes"),
        ("", NAMES, "no class of this model"),
        ("-1", NAMES, "no class of this model"),
        ("rank:first", NAMES, "rank:2"),
        ("name:wasp", NAMES, "no class of this model"),
        ("prob:3-5", NAMES, "no class of this model"),
        ("sigmoid:wasp", NAMES, "no class of this model"),
        ("mask:top", NAMES, "names no one class"),
        ("mask:wasp", NAMES, "no class of this model"),
        ("mask:bee", None, "--classes"),
        ("box:", NAMES, "write box:1"),
        ("box:left", NAMES, "write box:1"),
        ("box:0", NAMES, "rank 0 does not exist"),
        ("box:1:middle", NAMES, "side 'middle'; expected left, top, right, bottom"),
        ("box:1:", NAMES, "side ''; expected left"),
        ("value:", NAMES, "write value:1"),
        ("value:-1", NAMES, "write value:1"),
        ("-value:x", NAMES, "write -value:1"),
        ("7", ("7", "bee"), "index:7 or name:7"),
        ("a-b-c", ("a", "b-c", "a-b", "c"), "in 2 ways; give indices"),
    ],
)
def test_a_text_that_means_nothing_or_two_things_is_refused(
    text: str, names: tuple[str, ...] | None, said: str
) -> None:
    with pytest.raises(TargetError, match=said) as caught:
        parse_target(text, names)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "index"), [("mask:3", 3), ("mask:bee", 3), ("mask:black-and-tan", 5)])
def test_a_mask_is_of_one_class(text: str, index: int) -> None:
    meant = parse_target(text, NAMES)
    assert isinstance(meant, SegmentationClass)
    assert (meant.index, meant.mask) == (index, None)


@given(st.lists(st.text(alphabet="abcXYZ -", min_size=1, max_size=6), min_size=1, max_size=6), st.data())
def test_a_name_given_with_its_prefix_is_that_class_or_ambiguous(
    names: list[str], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(names) - 1))
    same = [at for at, name in enumerate(names) if name.casefold() == names[index].strip().casefold()]
    try:
        found = parse_target(f"name:{names[index]}", names)
    except TargetError:
        assert len(same) != 1
    else:
        assert isinstance(found, ClassIndex)
        assert names[found.index].strip().casefold() == names[index].strip().casefold()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bee", "class 3 (bee)"),
        ("bee-black", "class 3 (bee) rather than class 6 (black)"),
        ("prob:0", "probability of class 0 (tench, Tinca tinca)"),
        ("index:99", "class 99"),
        ("sigmoid:bee", "sigmoid probability of class 3 (bee)"),
        ("mask:bee", "class 3 (bee) over its own pixels"),
        ("box:2", "score of box 2"),
        ("box:2:left", "left edge of box 2"),
        ("top", "top class"),
        ("rank:2", "class of rank 2"),
    ],
)
def test_classes_are_shown_with_their_names(text: str, shown: str) -> None:
    assert with_names(parse_target(text, NAMES).describe(), NAMES) == shown


def test_without_names_a_class_is_its_index() -> None:
    assert with_names("class 3", None) == "class 3"


def _embed(text: str) -> torch.Tensor:
    return torch.tensor([float(len(text)), 0.0])


def test_a_text_is_compared_by_the_cosine_of_the_embeddings() -> None:
    target = parse_target("text: a cat: asleep", None, _embed)
    scores = target(torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 1.0]]))
    assert torch.allclose(scores, torch.tensor([1.0, 0.0, -1.0, 0.5**0.5]))
    assert "a cat: asleep" in target.describe()


@pytest.mark.parametrize(
    ("text", "embed_text", "said"),
    [
        ("text:a cat", None, "needs an image-text model"),
        ("text: ", _embed, "no words"),
        ("top", _embed, "has none; compare with words, such as text:"),
        ("3", _embed, "has none; compare with words, such as text:"),
    ],
)
def test_words_are_for_image_text_models_and_classes_for_the_others(
    text: str, embed_text: EmbedText | None, said: str
) -> None:
    with pytest.raises(TargetError, match=said) as caught:
        parse_target(text, NAMES, embed_text)
    assert "\n" not in str(caught.value)
