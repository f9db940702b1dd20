"""What a map owes to the weights: those of the trained demo network, made random from the top downwards.

Over seeds 0 to 5, the mean rank correlation with the trained network's map, for 1 to 4 random stages, was
0.63 to 0.66, 0.52 to 0.54, 0.51 to 0.54 and 0.48 to 0.49 for the gradient; 0.67 to 0.75, 0.28 to 0.42,
0.39 to 0.50 and 0.45 to 0.58 for Grad-CAM; and 0.91 to 0.94, 0.85 to 0.88, 0.82 to 0.84 and 0.75 to 0.77 for
guided backprop. This is the check of Adebayo 2018, "Sanity checks for saliency maps".
"""

import pytest
import torch
from torch import Tensor

from whycam import explain, load
from whycam.demo import demo_images, demo_network

CHANGED_TO = {"gradient": (0.72, 0.6, 0.6, 0.56), "gradcam": (0.82, 0.55, 0.6, 0.68)}
KEPT = (0.87, 0.8, 0.76, 0.68)
LAYER = "features.block6"


@pytest.fixture(scope="module")
def images() -> Tensor:
    return load("demo").prepare(demo_images()[:6]).images


def ranks(values: Tensor) -> Tensor:
    return values.flatten(1).argsort(1).argsort(1).double()


def rank_correlation(maps: Tensor, others: Tensor) -> float:
    """Return Spearman's rho between the maps' magnitudes, averaged over the images."""
    pairs = zip(ranks(maps.abs()), ranks(others.abs()), strict=True)
    return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean())


@pytest.mark.parametrize("seed", [0, 3])
def test_random_weights_change_gradient_and_gradcam_and_hardly_guided_backprop(images, seed):
    trained, random = demo_network(), demo_network()
    with torch.no_grad():
        labels = trained(images).argmax(1).tolist()

    def maps(network, method):
        layer = LAYER if method == "gradcam" else None
        return explain(network, images, method=method, target=labels, layer=layer).maps

    methods = [*CHANGED_TO, "guidedbackprop"]
    known = {method: maps(trained, method) for method in methods}
    blocks = reversed(list(random.features))
    stages = [[random.head], *([block.conv, block.norm] for block in blocks)]
    torch.manual_seed(seed)
    for depth, parts in enumerate(stages[:4]):
        for part in parts:
            part.reset_parameters()
        rho = {method: rank_correlation(known[method], maps(random, method)) for method in methods}
        for method, highest in CHANGED_TO.items():
            assert rho[method] < highest[depth], (method, depth)
        assert rho["guidedbackprop"] > KEPT[depth], depth
