"""Methods that read several layers at once, or what every layer adds to the score."""

from collections.abc import Sequence

import torch
from torch import Tensor

from whycam.errors import MethodError
from whycam.methods.fusion import relative, to_grid
from whycam.methods.gradient import gradcam, gradcam_plus_plus, hirescam, layercam, xgradcam
from whycam.methods.needs import Stage, SumOfParts
from whycam.types import Activations, Images, Map


def fullgrad(images: Images, sum_of_parts: SumOfParts) -> Map:
    """Add up the magnitudes of all parts of the score: input times gradient and bias times gradient.

    A part [C, *grid] is taken by its magnitude, rescaled to [0, 1] over all its channels and positions,
    summed over the channels and resized to the image. Batch norms count as the bias that they are in eval
    mode. Returns [B, *size] >= 0: it says where, and not in which direction. The parts themselves are signed
    and add up to the score in piecewise linear networks, which ``whycam.completeness`` measures. Costs F + B
    beside the prediction. Source: Srinivas 2019, eq. 4 and 6; the rescaling over a whole layer is the
    authors' own.
    """
    return sum_of_parts(lambda part: to_grid(_rescaled(part.abs()).sum(1), images.shape[2:]))


_BASES = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "xgradcam": xgradcam,
    "hirescam": hirescam,
    "layercam": layercam,
}


def refinecam(stages: Sequence[Stage], *, base: str = "gradcam++") -> Map:
    """Multiply the maps of several layers: the deep ones say what counts, the shallow ones where exactly.

    Each layer's map by ``base`` is rectified, divided by its image's maximum and resized to the finest grid.
    ``base`` is gradcam++, gradcam, xgradcam, hirescam or layercam.
    A layer that speaks for nothing leaves nothing. Returns [B, *finest] in [0, 1]. Costs F + s-backward
    from the shallowest layer. Source: Domeniconi 2026, as the authors' code has it; the product is taken on
    the finest layer's grid, not on the image's.
    """
    if base not in _BASES:
        raise MethodError(f"base {base!r} is unknown; choose {', '.join(_BASES)}")
    maps = [relative(_BASES[base](stage.activations, stage.gradients)) for stage in stages]
    finest = max((one.shape[1:] for one in maps), key=lambda grid: grid.numel())
    return torch.stack([to_grid(one, finest) for one in maps]).prod(0)


def _rescaled(part: Activations) -> Tensor:
    """Bring each image's values to [0, 1]; zeros where they are all the same."""
    inner = tuple(range(1, part.ndim))
    least = part.amin(inner, keepdim=True)
    spread = part.amax(inner, keepdim=True) - least
    return (part - least) / torch.where(spread > 0, spread, 1)
