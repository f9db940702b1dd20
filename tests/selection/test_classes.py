"""Class folders are matched to outputs by name, else by order where nothing speaks against it."""

import pytest

from whycam.errors import UsageError
from whycam.selection.classes import match_classes


def test_names_go_before_the_order() -> None:
    found = match_classes(["cat", "dog", "猫头鹰"], ["dog", "猫头鹰", "cat"], 3)
    assert (found.outputs, found.how, found.note) == ((2, 0, 1), "names", None)
    assert found.names == ("dog", "猫头鹰", "cat")


def test_some_classes_of_many_are_found_by_name() -> None:
    assert match_classes(["owl", "wolf"], ["cat", "dog", "owl", "wolf"], 4).outputs == (2, 3)


def test_an_accent_may_be_composed_in_either_way() -> None:
    assert match_classes(["b", "e\u0301"], ["\u00e9", "b"], 2).outputs == (1, 0)


@pytest.mark.parametrize("names", [None, ["one", "two"]])
def test_without_common_names_the_sorted_order_counts_and_is_said(names: list[str] | None) -> None:
    found = match_classes(["cat", "dog"], names, 2)
    assert (found.outputs, found.how) == ((0, 1), "order")
    assert found.note is not None
    assert "in sorted order (cat, dog)" in found.note
    assert found.names == tuple(names or ["cat", "dog"])


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"2 class folders .cat, dog. and the network 3 outputs"):
        match_classes(["cat", "dog"], None, 3)


def test_an_order_that_a_known_name_contradicts_is_refused() -> None:
    with pytest.raises(UsageError, match="'dog' is the network's output 0, and 1 in sorted order"):
        match_classes(["cat", "dog"], ["dog", "kitten"], 2)


def test_a_name_that_two_outputs_share_matches_neither() -> None:
    with pytest.raises(UsageError, match="1 class folders"):
        match_classes(["crane"], ["crane", "crane", "cat"], 3)
