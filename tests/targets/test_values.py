"""A regression's numbers, raised or lowered."""

import pytest
import torch

from whycam.errors import TargetError
from whycam.targets import Value

VALUES = torch.tensor([[1.5, -2.0], [0.5, 3.0]])


def test_a_value_is_its_column_and_lower_its_negative() -> None:
    assert Value(1)(VALUES).tolist() == [-2.0, 3.0]
    assert Value(1, lower=True)(VALUES).tolist() == [2.0, -3.0]
    assert Value()(VALUES[:, 0]).tolist() == [1.5, 0.5]
    assert Value()({"logits": VALUES[:, :1]}).tolist() == [1.5, 0.5]
    assert Value().classes(VALUES) is None


@pytest.mark.parametrize("index", [2, -1])
def test_a_value_out_of_range_is_named_with_the_range(index: int) -> None:
    with pytest.raises(
        TargetError, match=f"value {index} does not exist; the model gives 2 an image, 0 to 1"
    ):
        Value(index)(VALUES)


def test_descriptions_are_a_few_words() -> None:
    assert Value(1).describe() == "value 1"
    assert Value(1, lower=True).describe() == "what lowers value 1"
