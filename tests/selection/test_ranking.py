"""Accuracy first, then the loss, then who came first; and ties are said."""

import pytest

from whycam.selection.ranking import Result, Tie, rank
from whycam.selection.scoring import Score


def _result(name: str, correct: int, loss: float, images: int = 10) -> Result:
    return Result(name=name, number=None, sha256="", score=Score(images, correct, loss, 0.5, 0.01))


def test_the_order_is_by_accuracy_then_by_loss_then_the_earlier_first() -> None:
    given = [
        _result("a", 7, 0.5),
        _result("b", 8, 0.9),
        _result("c", 8, 0.4),
        _result("d", 7, 0.5),
        _result("e", 9, 5.0),
    ]
    ranking = rank(given)
    assert [one.name for one in ranking.results] == ["e", "c", "b", "a", "d"]
    assert ranking.ties == (Tie(("c", "b"), "loss"), Tie(("a", "d"), "earlier"))
    assert ranking.best.name == "e"


def test_how_close_the_others_are_is_said_in_standard_errors() -> None:
    ranking = rank([_result("a", 80, 1.0, 100), _result("b", 77, 1.0, 100), _result("c", 75, 1.0, 100)])
    assert ranking.standard_error == pytest.approx(0.04)
    assert ranking.close == 1
    assert ranking.median_accuracy == pytest.approx(0.77)
