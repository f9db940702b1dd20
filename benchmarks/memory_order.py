"""Time forwards on images whose channels come last in memory against the usual order.

``python -m benchmarks.memory_order`` prints the quartiles of the ratio for each network and batch size. The
engine's ``CHANNELS_LAST_FROM`` rests on these. Weights are random; runs are interleaved in one process.
"""

import argparse
import random
import statistics
import time
import warnings
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

NETWORKS = [
    "resnet18",
    "resnet50",
    "vgg11_bn",
    "densenet121",
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "convnext_tiny",
    "regnetx_008",
    "inception_v3",
    "swin_tiny_patch4_window7_224",
    "resnext50_32x4d",
    "xception41",
    "dla34",
    "hrnet_w18_small",
    "ghostnet_100",
    "repvgg_a0",
    "coatnet_0_224",
    "maxvit_tiny_tf_224",
    "edgenext_small",
    "fastvit_t8",
    "nfnet_f0",
    "res2net50_26w_4s",
]


def ratios(model: nn.Module, images: Tensor, rounds: int) -> list[float]:
    """Return the times of a forward on channels-last images over those on a copy, the change included."""

    def seconds(order: torch.memory_format) -> float:
        start = time.perf_counter()
        model(images.clone(memory_format=order))
        return time.perf_counter() - start

    orders = [torch.channels_last, torch.contiguous_format]
    found = []
    for turn in range(rounds + 1):
        random.shuffle(orders)
        taken = {order: seconds(order) for order in orders}
        if turn:  # the first warms up
            found.append(taken[torch.channels_last] / taken[torch.contiguous_format])
    return found


def main() -> None:
    """Print a line a network and batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with torch.no_grad():
        for name in NETWORKS:
            model: nn.Module = timm.create_model(name).eval()
            size = max(224, cast(Any, model).pretrained_cfg["input_size"][-1])
            for batch in arguments.batches:
                low, middle, high = statistics.quantiles(
                    ratios(model, torch.randn(batch, 3, size, size), arguments.rounds), n=4
                )
                print(f"{name:32} {batch:3} {middle:.2f} ({low:.2f} to {high:.2f})", flush=True)


if __name__ == "__main__":
    main()
