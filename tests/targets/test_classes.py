"""What is explained: each target's scores by explicit indexing, and every wrong target in one line."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.googlenet import GoogLeNetOutputs
from torchvision.models.inception import InceptionOutputs
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.models.clip.modeling_clip import CLIPOutput

from whycam.errors import TargetError
from whycam.targets import (
    Binary,
    ClassIndex,
    ClassPerImage,
    Contrast,
    CustomTarget,
    PerImage,
    Probability,
    Rank,
    TopClass,
    as_target,
    join_targets,
    logits_of,
)

LOGITS = torch.tensor([[1.0, 5.0, 3.0, -2.0], [0.5, 0.0, 4.0, 4.5], [-1.0, -3.0, -2.0, -4.0]])


def refusal(target, outputs=LOGITS, batch=None):
    """Return the one line with which a target is refused, at the latest when it scores."""
    with pytest.raises(TargetError) as caught:
        as_target(target, len(outputs) if batch is None else batch)(outputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestScores:
    def test_a_class_index_takes_its_column(self):
        for index in range(4):
            assert torch.equal(ClassIndex(index)(LOGITS), LOGITS[:, index])
            assert ClassIndex(index).classes(LOGITS).tolist() == [index] * 3

    def test_the_top_class_is_each_images_own(self):
        assert TopClass()(LOGITS).tolist() == [5.0, 4.5, -1.0]
        assert TopClass().classes(LOGITS).tolist() == [1, 3, 0]

    def test_ranks_count_from_the_top(self):
        assert Rank(2).classes(LOGITS).tolist() == [2, 2, 2]
        assert Rank(4)(LOGITS).tolist() == [-2.0, 0.0, -4.0]
        assert torch.equal(Rank(1)(LOGITS), TopClass()(LOGITS))

    def test_ties_go_to_the_lower_class_at_every_rank(self):
        ties = torch.tensor([[2.0, 7.0, 7.0, 2.0, 7.0]]).repeat(2, 1)
        ranked = [Rank(rank).classes(ties).tolist() for rank in range(1, 6)]
        assert ranked == [[1, 1], [2, 2], [4, 4], [0, 0], [3, 3]]

    @given(st.lists(st.integers(-3, 3), min_size=1, max_size=40))
    def test_ranks_are_a_permutation_sorted_by_score(self, row):
        logits = torch.tensor([row], dtype=torch.float32)
        classes = [Rank(rank).classes(logits).item() for rank in range(1, len(row) + 1)]
        assert classes == sorted(range(len(row)), key=lambda index: (-row[index], index))

    def test_a_contrast_is_a_difference(self):
        assert torch.equal(Contrast(1, 2)(LOGITS), LOGITS[:, 1] - LOGITS[:, 2])
        assert Contrast(TopClass(), Rank(2))(LOGITS).tolist() == [2.0, 0.5, 1.0]
        assert Contrast(TopClass(), 0).classes(LOGITS).tolist() == [1, 3, 0]

    def test_a_probability_is_the_softmax(self):
        expected = LOGITS.softmax(1)
        torch.testing.assert_close(Probability(2)(LOGITS), expected[:, 2])
        torch.testing.assert_close(Probability()(LOGITS), expected.amax(1))
        torch.testing.assert_close(Probability(Rank(2))(LOGITS), expected.sort(1).values[:, -2])
        torch.testing.assert_close(Probability(ClassPerImage(torch.tensor([3, 0, 1]), (0, 3)))(LOGITS),
                                   expected[[0, 1, 2], [3, 0, 1]])  # fmt: skip
        assert Probability(2).classes(LOGITS).tolist() == [2, 2, 2]

    def test_a_sigmoid_probability_is_each_class_by_itself(self):
        expected = LOGITS.sigmoid()
        torch.testing.assert_close(Probability(2, activation="sigmoid")(LOGITS), expected[:, 2])
        torch.testing.assert_close(Probability(activation="sigmoid")(LOGITS), expected.amax(1))
        one = LOGITS[:, :1]
        torch.testing.assert_close(Probability(0, "sigmoid")(one), one[:, 0].sigmoid())
        torch.testing.assert_close(
            Probability(Binary(positive=False), "sigmoid")(one), 1 - one[:, 0].sigmoid()
        )
        with pytest.raises(TargetError, match=r'softmax is always 1.*activation="sigmoid"'):
            Probability(0)(one)

    def test_yes_is_the_logit_and_no_its_negative(self):
        one = LOGITS[:, 1]
        assert torch.equal(Binary()(one), one)
        assert torch.equal(Binary(positive=False)(one[:, None]), -one)
        assert Binary().classes(one).tolist() == [1, 1, 1]
        assert Binary(positive=False).classes(one).tolist() == [0, 0, 0]
        with pytest.raises(TargetError, match=r"the model has 4 outputs, and Binary.*Contrast\(1, 0\)"):
            Binary()(LOGITS)

    def test_a_function_gets_the_outputs_as_they_are(self):
        outputs = {"logits": LOGITS, "extra": "kept"}
        seen = []
        target = as_target(lambda given: seen.append(given) or given["logits"].sum(1), 3)
        assert torch.equal(target(outputs), LOGITS.sum(1))
        assert seen[0] is outputs
        assert target.classes(outputs) is None

    @pytest.mark.parametrize(
        "target",
        [0, TopClass(), Rank(3), Contrast(3, Rank(2)), Probability(1), [0, 1, 2], [TopClass(), 1, Rank(2)],
         lambda outputs: outputs.square().sum(1)],
    )  # fmt: skip
    def test_scores_are_differentiable_and_each_images_own(self, target):
        logits = LOGITS.clone().requires_grad_()
        scores = as_target(target, 3)(logits)
        assert scores.shape == (3,)
        for image in range(3):
            (gradient,) = torch.autograd.grad(scores[image], logits, retain_graph=True)
            assert gradient[image].abs().max() > 0
            assert gradient[[other for other in range(3) if other != image]].abs().max() == 0

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_scores_are_float32_or_wider(self, dtype):
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        for target in (0, TopClass(), Contrast(0, 1), Probability(), [0, TopClass(), Rank(2)], [0, 1, 2]):
            assert as_target(target, 3)(LOGITS.to(dtype)).dtype == wide


class TestLogits:
    def test_class_scores_are_found_in_containers(self):
        class Output:
            logits = LOGITS

        for outputs in (
            *[LOGITS, (LOGITS, "other"), [LOGITS], {"logits": LOGITS}, {"out": LOGITS}, Output()],
            {"out": None, "logits": LOGITS},
            {"loss": None, "logits_per_image": LOGITS, "logits_per_text": LOGITS.T},
            InceptionOutputs(LOGITS, LOGITS + 1),
            GoogLeNetOutputs(LOGITS, None, None),
            ImageClassifierOutput(logits=LOGITS),
            CLIPOutput(logits_per_image=LOGITS, logits_per_text=LOGITS.T),
        ):
            assert torch.equal(logits_of(outputs), LOGITS)

    @pytest.mark.parametrize("wrap", [lambda logits: {"logits": logits}, lambda logits: (logits, "other"),
                                      lambda logits: ImageClassifierOutput(logits=logits)])  # fmt: skip
    def test_a_target_an_image_sees_its_own_share_of_any_container(self, wrap, unchecked):
        seen = []
        function = lambda outputs: seen.append(outputs) or logits_of(outputs)[:, 2]  # noqa: E731
        target = as_target([TopClass(), function, 0], 3).pin(wrap(LOGITS))
        assert target(wrap(LOGITS)).tolist() == [5.0, 4.0, -1.0]
        assert type(seen[0]) is type(wrap(LOGITS))
        assert torch.equal(logits_of(seen[0]), LOGITS[1:2])

    def test_one_score_an_image_counts_as_one_class(self):
        assert torch.equal(ClassIndex(0)(LOGITS[:, 0]), LOGITS[:, 0])
        assert TopClass().classes(LOGITS[:, 0]).tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("outputs", "named"),
        [
            (torch.zeros(2, 4, dtype=torch.int64), r"a tensor \[2, 4\] of torch.int64"),
            ({"features": LOGITS}, "a dict with features"),
            ({}, "a dict with no entries"),
            ("text", "a str"),
            (None, "a NoneType"),
            ((), "a tuple"),
            (([LOGITS],), "a tuple"),
            (ImageClassifierOutput(hidden_states=(LOGITS,)), "a ImageClassifierOutput with hidden_states"),
        ],
    )
    def test_anything_else_is_named_with_the_mend(self, outputs, named):
        with pytest.raises(TargetError, match=f"returned {named}.*target=a function") as caught:
            logits_of(outputs)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("outputs", "target"),
        [
            (torch.zeros(2, 4, 3, 3), "mask:CLASS"),
            ({"out": torch.zeros(2, 4, 3, 3)}, "mask:CLASS"),
            ([{"boxes": LOGITS, "labels": LOGITS, "scores": LOGITS}], "box:1"),
            ({"logits": torch.zeros(2, 5, 3), "pred_boxes": torch.zeros(2, 5, 4)}, "box:1"),
        ],
    )
    def test_pixels_and_detections_name_the_target_that_fits_them(self, outputs, target):
        with pytest.raises(TargetError, match=f"on the command line {target}$"):
            logits_of(outputs)


class TestSequences:
    @pytest.mark.parametrize(
        "targets",
        [
            [3, 0, 2],
            (3, 0, 2),
            np.array([3, 0, 2]),
            np.array([3, 0, 2], dtype=np.uint8),
            torch.tensor([3, 0, 2]),
            torch.tensor([3, 0, 2], dtype=torch.uint8),
            [np.int64(3), np.int32(0), 2],
            [torch.tensor(3), 0, torch.tensor(2)],
        ],
    )
    def test_a_class_an_image_in_any_kind_of_sequence(self, targets, unchecked):
        target = as_target(targets, 3)
        assert target(LOGITS).tolist() == [-2.0, 0.5, -2.0]
        assert target.classes(LOGITS).tolist() == [3, 0, 2]

    def test_a_range_is_a_sequence(self):
        assert as_target(range(3), 3)(LOGITS).tolist() == [1.0, 0.0, -2.0]

    def test_numbers_and_targets_mixed(self):
        target = as_target([TopClass(), 1, Contrast(0, 3)], 3)
        assert target(LOGITS).tolist() == [5.0, 0.0, 3.0]
        assert target.classes(LOGITS).tolist() == [1, 1, 0]

    def test_a_function_and_nothing_among_them(self, unchecked):
        target = as_target([None, lambda outputs: outputs.sum(1), 2], 3)
        assert target(LOGITS).tolist() == [5.0, 9.0, -2.0]
        assert target.classes(LOGITS).tolist() == [1, -1, 2]

    @pytest.mark.parametrize("number", [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)])
    def test_one_number_is_for_all_images(self, number, unchecked):
        assert as_target(number, 3) == ClassIndex(3)

    def test_nothing_is_the_top_class(self):
        assert as_target(None, 3) == TopClass()

    @pytest.mark.parametrize("targets", [[], [0], [0, 1], [0, 1, 2, 3], np.array([0]), torch.tensor([0, 1])])
    def test_another_count_is_refused_with_both_counts(self, targets):
        assert f"{len(targets)} targets for 3 images" in refusal(targets)

    @given(st.integers(0, 6), st.integers(1, 6))
    def test_only_one_target_an_image_is_accepted(self, count, batch):
        if count == batch:
            assert len(as_target([0] * count, batch).classes(LOGITS[:1].expand(batch, 4))) == batch
        else:
            with pytest.raises(TargetError, match=f"{count} targets for {batch} images"):
                as_target([0] * count, batch)

    def test_a_target_for_another_batch_is_refused_when_it_scores(self):
        for target in (as_target([0, 1], 2), as_target([0, TopClass()], 2)):
            with pytest.raises(TargetError, match="2 targets for 3 images"):
                target(LOGITS)
            with pytest.raises(TargetError, match="2 targets for 3 images"):
                target.pin(LOGITS)(LOGITS)


class TestRefusals:
    @pytest.mark.parametrize("index", [4, 99, -1])
    @pytest.mark.parametrize(
        "build",
        [
            lambda index: index,
            lambda index: [0, index, 1],
            lambda index: [TopClass(), index, 1],
            lambda index: np.array([index, 0, 0]),
            lambda index: torch.tensor([0, 0, index]),
            ClassIndex,
            Probability,
            lambda index: Probability(ClassIndex(index)),
            lambda index: Contrast(0, index),
            lambda index: Contrast(index, 0),
        ],
    )
    def test_a_class_out_of_range_is_named_with_the_range(self, build, index):
        assert "the model has 4 classes, 0 to 3" in refusal(build(index))
        with pytest.raises(TargetError, match=f"class {index} does not exist"):
            as_target(build(index), 3).pin(LOGITS)(LOGITS)

    @pytest.mark.parametrize("rank", [0, -1, 5])
    def test_a_rank_out_of_range_is_named(self, rank):
        for target in (Rank(rank), Probability(Rank(rank)), Contrast(Rank(rank), 0)):
            assert f"rank {rank} does not exist" in refusal(target)

    @pytest.mark.parametrize(
        "target",
        [
            *[True, False, 1.0, "1", "cat", b"1", {"class": 1}, {1, 2, 3}, object()],
            *[[True, False, True], [0, 1.0, 2], [0, "1", 2], [[0], [1], [2]]],
            *[
                np.array([0.0, 1.0, 2.0]),
                np.array([True, False, True]),
                np.zeros((3, 1), dtype=int),
                np.array(1.0),
            ],
            *[torch.tensor([0.0, 1.0, 2.0]), torch.tensor([True, False, True]), torch.zeros(3, 1).long()],
            *[torch.tensor(1.0), torch.tensor(True), np.array(True), np.bool_(True), np.float64(1)],
        ],
        ids=lambda value: repr(value).split(" at 0x")[0],
    )
    def test_what_is_no_target_is_refused(self, target, unchecked):
        assert refusal(target)

    @pytest.mark.parametrize(
        "function",
        [
            lambda outputs: outputs,
            lambda outputs: outputs.sum(),
            lambda outputs: outputs[:2, 0],
            lambda outputs: outputs[:, :1],
            lambda outputs: 1.0,
            lambda outputs: None,
            lambda outputs: outputs[:, 0].tolist(),
        ],
    )
    def test_a_function_that_gives_no_score_an_image_is_refused(self, function, unchecked):
        assert "expected one score an image, [3]" in refusal(function)

    def test_a_function_that_sums_over_the_batch_is_refused_for_one_image_too(self):
        with pytest.raises(TargetError, match=r"a tensor \[\]"):
            as_target(lambda outputs: outputs.sum(), 1)(LOGITS[:1])

    def test_a_probability_of_no_class_is_refused(self):
        for inner in (
            CustomTarget(lambda outputs: outputs[:, 0]),
            Probability(CustomTarget(lambda o: o[:, 0])),
        ):
            with pytest.raises(TargetError, match="needs a class"):
                Probability(inner)(LOGITS)

    def test_an_unknown_activation_is_refused_at_once(self, unchecked):
        with pytest.raises(TargetError, match="activation 'relu' is unknown; give 'softmax' or 'sigmoid'"):
            Probability(0, activation="relu")


class TestPinning:
    OTHER = torch.tensor([[9.0, 0.0, 0.0, 0.0]]).repeat(3, 1)

    @pytest.mark.parametrize(
        ("target", "scores"),
        [
            (TopClass(), [0.0, 0.0, 9.0]),  # classes 1, 3, 0 of LOGITS
            (Rank(2), [0.0, 0.0, 0.0]),
            (Contrast(TopClass(), Rank(4)), [0.0, 0.0, 9.0]),  # against 3, 1, 3
            (ClassIndex(0), [9.0, 9.0, 9.0]),
            (PerImage((TopClass(), ClassIndex(0), TopClass())), [0.0, 9.0, 9.0]),
        ],
    )
    def test_a_pinned_target_keeps_its_classes_on_other_outputs(self, target, scores):
        pinned = target.pin(LOGITS)
        assert pinned(self.OTHER).tolist() == scores
        assert torch.equal(pinned.classes(self.OTHER), target.classes(LOGITS))
        assert torch.equal(pinned(LOGITS), target(LOGITS))

    def test_a_pinned_probability_keeps_its_class(self):
        pinned = Probability().pin(LOGITS)
        torch.testing.assert_close(pinned(self.OTHER), self.OTHER.softmax(1)[[0, 1, 2], [1, 3, 0]])

    def test_a_part_is_its_images_own(self):
        for targets in ([3, 0, 2], [TopClass(), 0, Rank(2)]):
            whole = as_target(targets, 3)
            assert torch.equal(whole.part(1, 3)(LOGITS[1:]), whole(LOGITS)[1:])
        assert as_target(2, 3).part(1, 3) == ClassIndex(2)
        with pytest.raises(TargetError, match="class 9 does not exist"):
            as_target([0, 1, 9], 3).part(0, 2)(LOGITS[:2])  # said at the first part, not after hours


class TestJoining:
    @pytest.mark.parametrize(
        "target",
        [TopClass(), Rank(2), Contrast(TopClass(), Rank(2)), Probability(), Probability(activation="sigmoid"),
         [TopClass(), 1, Rank(2)], [0, 1, 2]],
    )  # fmt: skip
    def test_the_parts_of_a_target_join_to_the_whole(self, target):
        whole = as_target(target, 3)
        rows = [LOGITS[:2], LOGITS[2:]]
        parts = [whole.part(0, 2).pin(rows[0]), whole.part(2, 3).pin(rows[1])]
        joined = join_targets(parts, [2, 1])
        assert type(joined) is type(whole.pin(LOGITS))
        assert torch.equal(joined(LOGITS), whole(LOGITS))
        assert joined.describe() == whole.pin(LOGITS).describe()

    def test_targets_of_different_kinds_become_one_an_image(self):
        for kinds in (
            [Probability(0), Probability(0, "sigmoid")],
            [ClassIndex(1), TopClass().pin(LOGITS[1:])],
        ):
            joined = join_targets(kinds, [1, 2])
            assert isinstance(joined, PerImage)
            expected = torch.cat([kinds[0](LOGITS[:1]), kinds[1](LOGITS[1:])])
            assert torch.equal(joined(LOGITS), expected)


def test_descriptions_are_a_few_words():
    for target, words in (
        (TopClass(), "top class"),
        (Rank(3), "class of rank 3"),
        (ClassIndex(7), "class 7"),
        (Contrast(7, TopClass()), "class 7 rather than top class"),
        (Probability(7), "probability of class 7"),
        (Probability(7, activation="sigmoid"), "sigmoid probability of class 7"),
        (Binary(), "the positive class"),
        (Binary(positive=False), "the negative class"),
        (as_target(refusal, 3), "function refusal"),
        (as_target([1, 2], 2), "a class an image"),
        (PerImage((TopClass(), ClassIndex(2))), "top class; class 2"),
    ):
        assert target.describe() == words


def test_targets_are_values():
    assert Contrast(1, TopClass()) == Contrast(1, TopClass())
    assert hash(Probability(Rank(2))) == hash(Probability(Rank(2)))
    assert TopClass() != Rank(1)
    with pytest.raises(AttributeError):
        TopClass().rank = 2
