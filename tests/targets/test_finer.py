"""Finer: a class against those most like it, by explicit indexing."""

import pytest
import torch
from tests.oracles import layered as oracle

from whycam.errors import TargetError
from whycam.targets import (
    ClassIndex,
    Contrast,
    Finer,
    Probability,
    Rank,
    TopClass,
    as_target,
    join_targets,
)

LOGITS = torch.tensor(
    [[1.0, 5.0, 3.0, -2.0, 4.0], [0.5, 0.0, 4.0, 4.5, 4.5], [-1.0, -3.0, -2.0, -4.0, 9.0]],
    dtype=torch.float64,
)


def by_loops(labels, gamma, count, logits=LOGITS):
    rows = [row.tolist() for row in logits]
    against = [oracle.references(row, label, count) for row, label in zip(rows, labels, strict=True)]
    return [
        oracle.finer_score(*each) for each in zip(rows, labels, [gamma] * len(rows), against, strict=True)
    ]


@pytest.mark.parametrize("gamma", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(
    ("of", "labels"),
    [(TopClass(), [1, 3, 4]), (Rank(2), [4, 4, 0]), (2, [2, 2, 2]), ([0, 4, 1], [0, 4, 1])],
)
def test_the_nearest_classes_are_taken_from_the_class(of, labels, gamma, count):
    of = as_target(of, 3) if isinstance(of, list) else of
    target = Finer(of, gamma, count)
    assert target(LOGITS).tolist() == pytest.approx(by_loops(labels, gamma, count), abs=1e-12)
    assert target.classes(LOGITS).tolist() == labels


def test_the_top_class_is_compared_with_the_three_that_rank_next():
    against = Contrast(TopClass(), Rank(2))(LOGITS), Contrast(TopClass(), Rank(4))(LOGITS)
    expected = TopClass()(LOGITS) - 0.6 * sum(Rank(rank)(LOGITS) for rank in (2, 3, 4)) / 3
    torch.testing.assert_close(Finer()(LOGITS), expected)
    torch.testing.assert_close(Finer(gamma=1.0, references=1)(LOGITS), against[0])


def test_references_may_be_named():
    torch.testing.assert_close(
        Finer(1, gamma=0.5, references=[0, 2])(LOGITS), LOGITS[:, 1] - 0.25 * (LOGITS[:, 0] + LOGITS[:, 2])
    )
    torch.testing.assert_close(
        Finer(1, gamma=1.0, references=[Rank(5)])(LOGITS), LOGITS[:, 1] - LOGITS.amin(1)
    )


def test_a_model_with_fewer_classes_is_compared_with_those_it_has():
    torch.testing.assert_close(Finer(0, gamma=1.0)(LOGITS[:, :2]), LOGITS[:, 0] - LOGITS[:, 1])


def test_a_pinned_comparison_keeps_its_classes_on_other_outputs():
    pinned = Finer().pin(LOGITS)
    other = LOGITS.flip(1)
    assert pinned.classes(other).tolist() == [1, 3, 4]
    against = [
        oracle.references(row.tolist(), label, 3) for row, label in zip(LOGITS, [1, 3, 4], strict=True)
    ]
    expected = [
        oracle.finer_score(row.tolist(), label, 0.6, some)
        for row, label, some in zip(other, [1, 3, 4], against, strict=True)
    ]
    assert pinned(other).tolist() == pytest.approx(expected, abs=1e-12)


def test_batches_and_rows_of_a_pinned_comparison_are_its_images():
    whole = Finer().pin(LOGITS)
    for rows in ([2], [1, 1, 0]):
        torch.testing.assert_close(whole.select(torch.tensor(rows))(LOGITS[rows]), whole(LOGITS)[rows])
    parts = [Finer().pin(LOGITS[:2]), Finer().pin(LOGITS[2:])]
    torch.testing.assert_close(join_targets(parts, [2, 1])(LOGITS), whole(LOGITS))
    torch.testing.assert_close(
        as_target([Finer(0), Finer(), 2], 3)(LOGITS),
        torch.stack([Finer(0)(LOGITS)[0], Finer()(LOGITS)[1], LOGITS[2, 2]]),
    )


@pytest.mark.parametrize(
    ("target", "outputs", "said"),
    [
        (lambda: Finer(references=0), LOGITS, "0 references"),
        (lambda: Finer(references=[]), LOGITS, "0 references"),
        (lambda: Finer(Probability(1)), LOGITS, "probability of class 1 is none"),
        (lambda: Finer(), LOGITS[:, :1], "one output"),
        (lambda: Finer(7), LOGITS, "class 7 does not exist"),
        (lambda: Finer(1, references=[9]), LOGITS, "class 9 does not exist"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(target, outputs, said):
    with pytest.raises(TargetError, match=said) as caught:
        target()(outputs)
    assert "\n" not in str(caught.value)


def test_it_says_what_is_compared():
    assert Finer().describe() == "top class rather than the 3 nearest classes (gamma 0.6)"
    assert Finer(1, 1.0, [ClassIndex(2), 0]).describe() == "class 1 rather than class 2, class 0 (gamma 1)"
