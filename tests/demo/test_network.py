import torch
from torch import nn

from whycam.demo.network import DemoNet


def test_the_network_is_small():
    assert sum(parameter.numel() for parameter in DemoNet().parameters()) < 250_000


def test_96_pixels_give_a_map_of_12_x_12():
    network = DemoNet().eval()
    with torch.inference_mode():
        assert network.features(torch.zeros(1, 3, 96, 96)).shape == (1, 96, 12, 12)


def test_the_heads_class_row_over_the_last_map_gives_back_the_logits():
    torch.manual_seed(0)
    network = DemoNet().eval()
    images = torch.randn(3, 3, 96, 80)
    with torch.inference_mode():
        class_maps = torch.einsum("kc,bchw->bkhw", network.head.weight, network.features(images))
        expected = class_maps.mean((2, 3)) + network.head.bias
        torch.testing.assert_close(network(images), expected)


def test_no_layer_works_in_place():
    assert not any(module.inplace for module in DemoNet().modules() if isinstance(module, nn.ReLU))


def test_there_is_one_linear_layer_and_it_is_the_head():
    network = DemoNet()
    assert [name for name, module in network.named_modules() if isinstance(module, nn.Linear)] == ["head"]
