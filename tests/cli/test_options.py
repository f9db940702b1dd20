"""Texts of options become values, or one line that names the option."""

import pytest

from whycam.cli.options import (
    OPACITIES,
    SMOOTHINGS,
    parse_numbers,
    parse_opacity,
    parse_size,
    parse_smoothing,
)
from whycam.errors import UsageError
from whycam.methods import FirstComponent, FlipAverage, NoiseAverage, ScaleAverage
from whycam.render import ConstantOpacity, MagnitudeOpacity


@pytest.mark.parametrize(
    ("text", "size"),
    [("224", (224, 224)), ("96,128", (96, 128)), ("96x128", (96, 128)), ("96, 128", (96, 128))],
)
def test_a_size_is_height_and_width(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-3", "1,2,3", "a", "224,", "2.5"])
def test_another_text_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="--size"):
        parse_size(text)


def test_numbers_are_read_and_others_refused_by_the_options_name() -> None:
    assert parse_numbers("--mean", "0.5, -1,2e-1") == (0.5, -1.0, 0.2)
    with pytest.raises(UsageError, match=r"--mean is '0\.5;0\.5'"):
        parse_numbers("--mean", "0.5;0.5")


def test_every_word_has_its_own_value() -> None:
    assert [parse_smoothing(word) for word in SMOOTHINGS] == [
        FlipAverage(),
        NoiseAverage(),
        ScaleAverage(),
        FirstComponent(),
    ]
    assert parse_smoothing(None) is None
    assert [parse_opacity(word) for word in OPACITIES] == [MagnitudeOpacity(), ConstantOpacity()]


def test_another_word_is_refused_with_the_words_there_are() -> None:
    with pytest.raises(
        UsageError, match="--smoothing is 'blur'; expected one of flip, noise, scale, first-component"
    ):
        parse_smoothing("blur")
    with pytest.raises(UsageError, match="--opacity"):
        parse_opacity("full")
