"""Video networks that want a clip's frames before its channels, as ones that take what torchvision's take."""

from typing import Any

from torch import Tensor, nn

TAKES_CLIPS = (
    "pass a tensor [B, C, T, H, W] of clips in Python: explain(model.module, clips), each frame made by "
    "model.preprocessing.apply"
)
"""What a video network takes instead of pictures, for `LoadedModel.needs_clips`."""


class FramesFirst(nn.Module):
    """A network on clips [B, T, C, H, W] as one on clips [B, C, T, H, W], with the same answers.

    The network is kept under ``model``. ``num_prefix_tokens`` says how many of its tokens are no places, and
    ``tokens_time_last`` that from one token to the next the time changes fastest; elsewhere it is the column.
    """

    def __init__(self, model: nn.Module, argument: str, *, tokens_time_last: bool = False) -> None:
        """Take the network and the name of the argument that its clips go to."""
        super().__init__()
        self.model = model
        self.num_prefix_tokens = sum(name.endswith("cls_token") for name, _ in model.named_parameters())
        self.tokens_time_last = tokens_time_last
        self._argument = argument

    def forward(self, pixel_values: Tensor) -> Any:
        """Return the network's answer to clips [B, C, T, H, W]."""
        return self.model(**{self._argument: pixel_values.transpose(1, 2)})
