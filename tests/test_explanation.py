"""An explanation: a frozen value that says why a map is empty or broken."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from tests.engine.networks import Plain, Residual, pictures, settle

from whycam import ClassIndex, Explanation, UsageError, explain

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def explanation():
    return explain(settle(Plain()), pictures(3), layer="last", target=[0, 1, 4])


def test_an_explanation_says_what_was_explained(explanation):
    assert isinstance(explanation, Explanation)
    assert len(explanation) == 3
    assert explanation.maps.shape == (3, 6, 6)
    assert explanation.classes.tolist() == [0, 1, 4]
    assert explanation.layer == "last"
    assert explanation.method == "gradcam"
    assert explanation.size == (12, 12)
    assert torch.equal(explanation.scores, explanation.outputs[[0, 1, 2], [0, 1, 4]])
    assert not explanation.blank.any()
    assert torch.equal(explanation.images, pictures(3))
    assert explanation.diagnosis() == [None, None, None]


def test_an_explanation_cannot_be_changed(explanation):
    with pytest.raises(FrozenInstanceError):
        explanation.maps = explanation.maps * 2


def test_the_scores_and_targets_belong_together(explanation):
    assert torch.equal(explanation.targets(explanation.outputs), explanation.scores)


def test_heatmaps_are_at_the_images_size_in_0_to_1(explanation):
    heatmaps = explanation.heatmaps()
    assert heatmaps.shape == (3, 12, 12)
    assert heatmaps.min() >= 0
    assert heatmaps.amax((1, 2)).tolist() == pytest.approx([1, 1, 1])
    assert explanation.heatmaps("shared").amax() == pytest.approx(1)
    assert explanation.heatmaps("shared").amax((1, 2)).amin() < 1


def test_overlays_of_signals_and_volumes_are_refused_in_one_line():
    found = explain(settle(Plain(1)), pictures(size=(12,)))
    assert found.heatmaps().shape == (2, 12)
    with pytest.raises(UsageError, match=r"1 axes. Use .heatmaps\(\)"):
        found.overlays()


def test_dead_gradients_are_told_from_a_map_that_cancels_out():
    model = settle(Plain())
    model.head.weight.data.zero_()
    found = explain(model, pictures(), layer="last")
    assert found.blank.tolist() == [True, True]
    assert all("gradient at 'last' is zero" in reason for reason in found.diagnosis())

    found = explain(settle(Plain()), pictures(), layer="last", method=lambda gradients: 0 * gradients.sum(1))
    assert found.blank.tolist() == [True, True]
    assert all("zero everywhere: nothing at 'last' speaks" in reason for reason in found.diagnosis())


def test_a_map_without_positive_values_is_said(explanation):
    maps = explanation.maps.clone()
    maps[1] = -maps[1].abs() - 1
    found = replace(explanation, maps=maps)
    assert found.diagnosis()[0] is None
    assert "no positive value" in found.diagnosis()[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_broken_image_is_said_and_the_others_are_not_touched(value):
    images = pictures(3)
    images[1, 0, 5, 5] = value
    model = settle(Plain())
    found = explain(model, images, layer="last", target=1)
    reasons = found.diagnosis()
    assert "NaN or infinity" in reasons[1]
    assert reasons[0] is None
    assert reasons[2] is None
    clean = explain(model, pictures(3), layer="last", target=1)
    assert torch.equal(found.maps[[0, 2]], clean.maps[[0, 2]])


def test_an_images_map_does_not_depend_on_its_batch():
    model = settle(Residual()).double()
    images = pictures(4, dtype=torch.float64)
    for method in ("gradcam", "gradcam++", "layercam", "eigencam", "eigengradcam", "kpcacam", "fem", "dff"):
        together = explain(model, images, layer="blocks.0", method=method, target=ClassIndex(2)).maps
        alone = torch.cat(
            [explain(model, one[None], layer="blocks.0", method=method, target=2).maps for one in images]
        )
        torch.testing.assert_close(together, alone, rtol=1e-7, atol=1e-10)


def test_the_repr_is_short(explanation):
    assert "images=" not in repr(explanation)
