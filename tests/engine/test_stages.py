"""Several layers by depth: one a resolution, or a few of one resolution."""

import pytest
import timm
import torch
from tests.engine.networks import Plain, Residual, Transformer, pictures, settle
from torch import nn

import whycam
from whycam.engine import Candidate, LayerChoice, stages_of


def candidate(path, cells, objection="", support=1.0, trunk=True):
    return Candidate(path, "NCHW", (cells, cells), 16, support, trunk, objection)


def choice_of(path, *candidates):
    return LayerChoice(path, "NCHW", (4, 4), "because", candidates)


def test_the_deepest_fit_layer_at_each_grid_is_taken_from_shallow_to_deep():
    found = stages_of(
        choice_of(
            "c2",
            candidate("pool", 3),  # behind the chosen one
            candidate("c2", 4),
            candidate("c1", 4),
            candidate("b3.inner", 8, "inside a branch", trunk=False),
            candidate("b2", 8),
            candidate("b1", 8),
            candidate("a", 16),
            candidate("tiny", 2, "4 positions, fewer than 9"),
        )
    )
    assert found.paths == ("a", "b2", "c2")
    assert found.reason == "the deepest fit layer at each grid: 16 x 16, 8 x 8, 4 x 4"
    assert found.last == "because"


def test_a_layer_that_all_evidence_passes_may_have_gradient_at_few_positions():
    sparse = candidate("a", 8, "the score's gradient reaches 25% of its positions", support=0.25)
    branch = candidate("b", 8, "the score's gradient reaches 25%", support=0.25, trunk=False)
    assert stages_of(choice_of("c", candidate("c", 4), branch, sparse)).paths == ("a", "c")


@pytest.mark.parametrize(
    ("count", "taken"), [(1, "0"), (3, "0 1 2"), (4, "0 1 2 3"), (5, "1 2 3 4"), (12, "2 5 8 11")]
)
def test_of_one_resolution_four_equally_spaced_layers_are_taken(count, taken):
    layers = [candidate(str(place), 4) for place in reversed(range(count))]
    found = stages_of(choice_of(str(count - 1), *layers))
    assert " ".join(found.paths) == taken
    assert "all have the grid 4 x 4" in found.reason


@pytest.mark.parametrize(
    ("name", "grids"),
    [("resnet18", 5), ("convnext_atto", 4), ("swin_tiny_patch4_window7_224", 4), ("vit_tiny_patch16_224", 1)],
)
def test_real_architectures_are_explained_over_their_stages(name, grids, seed):
    sized = {"img_size": 96} if "patch" in name else {}
    model = timm.create_model(name, **sized, **({"window_size": 3} if "swin" in name else {})).eval()
    nn.init.normal_(model.get_classifier().weight)
    images = torch.randn(1, 3, 96, 96)
    explanation = whycam.explain(model, images, method="layercam", layer="stages")
    paths = explanation.layer.split(" + ")
    assert paths[-1] == whycam.choose_layer(model, images).path
    assert len(paths) == (grids if grids > 1 else 4)
    assert ("each grid" in explanation.reason) == (grids > 1)
    assert explanation.maps.shape[1:] == max(
        whycam.explain(model, images, layer=[path]).maps.shape[1:] for path in paths
    )
    assert explanation.maps.amax() > 0.5


def test_a_module_called_stages_is_named_in_a_list(seed):
    model = Residual()
    model.stages = model.blocks
    del model.blocks
    model.forward = lambda images: model.head(model.stages(model.stem(images)).mean((2, 3)))
    images = pictures()
    assert whycam.explain(settle(model), images, layer=["stages"]).layer == "stages"
    assert whycam.explain(model, images, layer="stages").layer != "stages"
    assert whycam.explain(model, images, layer="stages#1").layer == "stages#1"


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_stages_work_on_signals_images_and_volumes(axes, seed):
    size = {1: (24,), 2: (12, 12), 3: (6, 6, 6)}[axes]
    model, images = settle(Plain(axes)), pictures(2, size)
    for method in ("refinecam", "layercam"):
        explanation = whycam.explain(model, images, method=method, layer="stages")
        assert explanation.layer == "relu + last"
        assert explanation.maps.shape == (2, *size)


def test_stages_of_a_transformer_written_out(seed):
    model = settle(Transformer((4, 4), blocks=6, pool="mean"))
    explanation = whycam.explain(model, pictures(2, (16, 16)), method="refinecam")
    assert len(explanation.layer.split(" + ")) == 4
    assert explanation.maps.shape == (2, 4, 4)
