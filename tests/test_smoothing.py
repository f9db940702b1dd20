"""Smoothing through the explainer, each against the same average made by hand."""

import pytest
import torch
from tests.engine.networks import Counting, Plain, Residual, pictures, plain_autograd, settle

from whycam import (
    Contrast,
    FirstComponent,
    FlipAverage,
    MethodError,
    NoiseAverage,
    ScaleAverage,
    TopClass,
    explain,
    explain_methods,
    explain_targets,
)

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = ["gradcam", "gradcam++", "xgradcam", "hirescam", "gradcam-elementwise", "layercam"]


@pytest.fixture
def model():
    return settle(Residual()).double()


@pytest.fixture
def images():
    return pictures(dtype=torch.float64)


@pytest.mark.parametrize("method", [*METHODS, "eigencam", "fem"])
def test_flips_are_the_mean_of_the_map_and_the_mirrored_images_map(model, images, method):
    options = {"layer": "blocks.0", "method": method, "target": 1}
    found = explain(model, images, smoothing=FlipAverage(), **options)
    plain = explain(model, images, **options).maps
    mirrored = explain(model, images.flip(-1), **options).maps.flip(-1)
    torch.testing.assert_close(found.maps, (plain + mirrored) / 2, rtol=1e-12, atol=1e-14)
    assert not torch.equal(found.maps, plain)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_mirrored_image_gets_the_mirrored_map(axes):
    model = settle(Plain(axes)).double()
    images = pictures(size=(7, 9, 9)[-axes:], dtype=torch.float64)  # odd: a stride of 2 has a mirror image
    options = {"layer": "last", "smoothing": FlipAverage(), "target": 1}
    maps = explain(model, images, **options).maps
    mirrored = explain(model, images.flip(-1), **options).maps
    torch.testing.assert_close(mirrored, maps.flip(-1), rtol=1e-10, atol=1e-14)
    assert not torch.allclose(mirrored, maps)


def test_views_are_explained_for_the_clean_images_class():
    """The mirror image's own top class is another one."""
    model = settle(Residual()).double()
    images = pictures(16, dtype=torch.float64)
    with torch.no_grad():
        model.head.bias -= model(images).mean(0)  # or one class would be every image's
    classes = explain(model, images, layer="blocks.1").classes
    mirrored = explain(model, images.flip(-1), layer="blocks.1").classes
    assert (classes != mirrored).any()
    found = explain(model, images, layer="blocks.1", smoothing=FlipAverage())
    assert torch.equal(found.classes, classes)
    expected = explain(model, images, layer="blocks.1", smoothing=FlipAverage(), target=classes)
    assert torch.equal(found.maps, expected.maps)


def test_scores_and_outputs_are_the_clean_images(model, images):
    plain = explain(model, images, layer="blocks.1")
    for smoothing in (FlipAverage(), NoiseAverage(2), ScaleAverage(), FirstComponent()):
        found = explain(model, images, layer="blocks.1", smoothing=smoothing)
        assert torch.equal(found.scores, plain.scores)
        assert torch.equal(found.outputs, plain.outputs)
        assert torch.equal(found.images, images)


def test_noise_is_the_mean_over_its_views(model, images):
    smoothing = NoiseAverage(n=5, sigma=0.3, seed=11)
    found = explain(model, images, layer="blocks.1", target=1, smoothing=smoothing)
    views = [view for view, _ in smoothing.views(images)]
    expected = sum(explain(model, view, layer="blocks.1", target=1).maps for view in views) / 5
    torch.testing.assert_close(found.maps, expected, rtol=1e-12, atol=1e-14)


def test_noise_repeats_with_its_seed_and_follows_it(model, images):
    def noisy(seed):
        return explain(model, images, layer="blocks.1", smoothing=NoiseAverage(2, seed=seed)).maps

    assert torch.equal(noisy(1), noisy(1))
    assert not torch.equal(noisy(1), noisy(2))
    before = torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(noisy(1), noisy(1))
    torch.set_rng_state(before)


def test_no_noise_is_no_change(model, images):
    found = explain(model, images, layer="blocks.1", smoothing=NoiseAverage(n=3, sigma=0.0))
    torch.testing.assert_close(
        found.maps, explain(model, images, layer="blocks.1").maps, rtol=1e-12, atol=1e-14
    )


def test_scales_are_the_mean_over_the_multiplied_images(model, images):
    found = explain(model, images, layer="blocks.1", target=1, smoothing=ScaleAverage((0.5, 2.0)))
    expected = sum(explain(model, f * images, layer="blocks.1", target=1).maps for f in (0.5, 2.0)) / 2
    torch.testing.assert_close(found.maps, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_the_first_component_is_that_of_the_weighted_channels(model, images, method):
    from whycam.methods import METHODS as REGISTRY

    activations, gradients, _ = plain_autograd(model, images, "blocks.0", lambda outputs: outputs[:, 1])
    weighted = REGISTRY[method].function.weights(activations, gradients) * activations
    found = explain(model, images, layer="blocks.0", target=1, method=method, smoothing=FirstComponent())
    for image in range(2):
        samples = weighted[image].flatten(1).T  # positions x channels
        _, _, directions = torch.linalg.svd(samples, full_matrices=False)
        projection = (samples @ directions[0]).reshape(6, 6)
        close = torch.allclose(found.maps[image], projection, rtol=1e-7, atol=1e-9)
        assert close or torch.allclose(found.maps[image], -projection, rtol=1e-7, atol=1e-9)
        strength = samples.relu().mean(1).reshape(6, 6)
        assert torch.corrcoef(torch.stack([found.maps[image].flatten(), strength.flatten()]))[0, 1] >= 0


@pytest.mark.parametrize("method", ["eigencam", "cam", "random", "dff", lambda gradients: gradients.sum(1)])
def test_the_first_component_of_unweighted_channels_is_refused_in_one_line(model, images, method):
    with pytest.raises(MethodError, match=r"FirstComponent\(\).*use it with gradcam") as caught:
        explain(model, images, layer="blocks.1", method=method, smoothing=FirstComponent())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("smoothing", ["flip", True, 3, FlipAverage])
def test_what_is_no_smoothing_is_refused_in_one_line(model, images, smoothing, unchecked):
    with pytest.raises(MethodError, match=r"no smoothing; give FlipAverage\(\)") as caught:
        explain(model, images, layer="blocks.1", smoothing=smoothing)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("smoothing", [FlipAverage(), NoiseAverage(3, seed=4), FirstComponent()])
def test_smoothing_with_several_targets_and_methods_equals_each_alone(model, images, smoothing):
    targets = [0, TopClass(), Contrast(1, 2), [3, 4]]
    together = explain_targets(model, images, targets, layer="blocks.0", smoothing=smoothing)
    for target, found in zip(targets, together, strict=True):
        alone = explain(model, images, target=target, layer="blocks.0", smoothing=smoothing)
        torch.testing.assert_close(found.maps, alone.maps, rtol=1e-12, atol=1e-14)
    for found in explain_methods(model, images, METHODS, layer="blocks.0", smoothing=smoothing):
        alone = explain(model, images, method=found.method, layer="blocks.0", smoothing=smoothing)
        torch.testing.assert_close(found.maps, alone.maps, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("smoothing", "forwards"),
    [(FlipAverage(), 2), (NoiseAverage(4), 5), (ScaleAverage((1.0, 1.1)), 2), (FirstComponent(), 1)],
)
def test_smoothing_costs_a_forward_a_view_and_one_for_the_images_where_no_view_is_just_these(
    smoothing, forwards
):
    model = Counting(settle(Residual()))
    explain_targets(model, pictures(), [0, None], layer="net.blocks.1", smoothing=smoothing)
    assert len(model.batches) == forwards


def test_smoothing_in_batches_mirrors_each_image(model):
    images = pictures(5, dtype=torch.float64)
    whole = explain(model, images, layer="blocks.1", smoothing=FlipAverage())
    parts = explain(model, images, layer="blocks.1", smoothing=FlipAverage(), batch_size=2)
    torch.testing.assert_close(parts.maps, whole.maps, rtol=1e-10, atol=1e-14)


def test_several_layers_are_smoothed_before_they_average(model, images):
    found = explain(model, images, layer=["stem", "blocks.1"], smoothing=FlipAverage(), target=1)
    plain = explain(model, images, layer=["stem", "blocks.1"], target=1).maps
    mirrored = explain(model, images.flip(-1), layer=["stem", "blocks.1"], target=1).maps.flip(-1)
    torch.testing.assert_close(found.maps, (plain + mirrored) / 2, rtol=1e-12, atol=1e-14)


def test_a_smoothing_of_the_callers_own():
    class Turned:
        def views(self, images):
            for quarter in range(4):
                yield images.rot90(quarter, (-2, -1)), lambda maps, q=quarter: maps.rot90(-q, (-2, -1))

    model = settle(Residual()).double()
    images = pictures(size=(11, 11), dtype=torch.float64)
    maps = explain(model, images, layer="stem", smoothing=Turned(), target=1).maps
    turned = explain(model, images.rot90(1, (-2, -1)), layer="stem", smoothing=Turned(), target=1).maps
    torch.testing.assert_close(turned, maps.rot90(1, (-2, -1)), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "options", [{"method": "smoothgradcam++"}, {"smoothing": NoiseAverage(n=4)}], ids=["method", "smoothing"]
)
def test_noise_is_the_same_whatever_images_are_beside(model, images, options):
    together = explain(model, images, layer="blocks.0", target=1, **options).maps
    alone = explain(model, images, layer="blocks.0", target=1, batch_size=1, **options).maps
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)
