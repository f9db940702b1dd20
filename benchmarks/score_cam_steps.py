"""Why Score-CAM's maps differ between packages: with a package's own step in ours, they are equal.

The paper enlarges a channel to the image and then scales it to [0, 1]. torchcam scales before it enlarges,
grad-cam enlarges with aligned corners. This puts each step into our method in turn and prints the largest
difference of the maps, each stretched to [0, 1] as they do: ``python -m benchmarks.score_cam_steps``.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from benchmarks import measuring
from benchmarks.peers_methods import gradcam_package, ours, torchcam_package
from torch import Tensor

from whycam.methods import masking

Enlarge = Callable[[Tensor, torch.Size], Tensor]


def scaled_first(maps: Tensor, size: torch.Size) -> Tensor:
    """Scale, then enlarge, as torchcam does."""
    return _enlarged(_scaled(maps), size, align_corners=False)


def aligned_corners(maps: Tensor, size: torch.Size) -> Tensor:
    """Enlarge with the corners' centres on one another, then scale, as grad-cam does."""
    return _scaled(_enlarged(maps, size, align_corners=True))


def _scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-8)


def _enlarged(maps: Tensor, size: torch.Size, *, align_corners: bool) -> Tensor:
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=align_corners)[:, 0]


@contextlib.contextmanager
def step_of(enlarge: Enlarge) -> Iterator[None]:
    """Put a package's step into our method."""
    known = {name: getattr(masking, name) for name in ("to_grid", "_spanned")}
    vars(masking).update(to_grid=enlarge, _spanned=lambda maps: maps)
    try:
        yield
    finally:
        vars(masking).update(known)


def main() -> None:
    """Print the largest difference from each package, as shipped and with its step in ours."""
    warnings.simplefilter("ignore")
    place = measuring.Place("cpu", torch.float32)
    model, images = place.model("resnet18"), place.images(1)
    mine = ours("scorecam")(model)
    as_shipped = _scaled(mine(images))
    print("| package | as shipped | with its step in ours |")
    print("| --- | --- | --- |")
    for name, theirs, enlarge in (
        ("torchcam", torchcam_package("ScoreCAM"), scaled_first),
        ("grad-cam", gradcam_package("ScoreCAM"), aligned_corners),
    ):
        found = _scaled(theirs(model)(images).detach())
        with step_of(enlarge):
            same_step = _scaled(mine(images))
        shipped, equal = ((maps - found).abs().max() for maps in (as_shipped, same_step))
        print(f"| {name} | {shipped:.1e} | {equal:.1e} |")


if __name__ == "__main__":
    main()
