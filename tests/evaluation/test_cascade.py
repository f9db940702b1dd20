"""Cascading randomisation: what moves at which layer is known on a small network."""

import pytest
import torch
from tests.evaluation.beds import Small, noise

import whycam
from whycam.errors import LayerError
from whycam.evaluation import cascading_randomisation, sanity

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES = noise(4, 3, 8, 8)


@pytest.fixture
def network(seed: int) -> Small:
    return Small().eval()


def test_each_step_is_the_movement_of_the_maps_under_that_copy_for_the_classes_of_the_trained_model(network):
    steps = cascading_randomisation(network, IMAGES, ["gradcam", "gradient"], layer="features", seed=3)
    assert [step.layer for step in steps] == ["head", "features.0"]
    classes = network(IMAGES).argmax(1).tolist()
    for step, (_, copy) in zip(steps, sanity.cascade(network, seed=3), strict=True):
        for method in ("gradcam", "gradient"):
            own, again = (
                whycam.explain(one, IMAGES, method=method, target=classes, layer="features").maps
                for one in (network, copy)
            )
            moved = sanity.randomisation(own, again).double()
            assert step.moved[method].mean == pytest.approx(moved.mean().item(), abs=1e-9)
            assert step.moved[method].n == len(IMAGES)


def test_a_map_without_a_class_stays_until_its_own_layer_is_random_and_a_control_always(network):
    head, features = cascading_randomisation(network, IMAGES, ["eigencam", "centre"], layer=network.features)
    assert head.moved["eigencam"].mean == pytest.approx(0, abs=1e-9)
    assert features.moved["eigencam"].mean > 0.05
    assert [step.moved["centre"].mean for step in (head, features)] == [0, 0]


def test_on_the_demo_s_model_gradcam_moves_at_the_head_and_guided_backprop_hardly():
    from whycam.demo import demo_images

    model = whycam.load("demo")
    steps = cascading_randomisation(model, demo_images()[:3], ["gradcam", "guidedbackprop"])
    assert steps[0].layer == "head"
    assert steps[0].moved["gradcam"].mean > 2 * steps[0].moved["guidedbackprop"].mean
    assert steps[-1].layer == "features.block1.conv"


def test_the_model_is_left_as_it_came_and_a_wrong_layer_is_an_error(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(LayerError):
        cascading_randomisation(network, IMAGES, layer="nothing")
    cascading_randomisation(network, IMAGES, layer="features")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
