"""Networks that give an embedding: what of their answer is the embedding, and which part of them runs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class ImageEmbedding(nn.Module):
    """An image-text or headless network as one from pixel values [B, C, H, W] to embeddings [B, D].

    The whole network is kept under ``model``, so its layers have the paths they have there, behind that
    prefix. The embeddings are not normalised.
    """

    def __init__(self, model: nn.Module, embed: Callable[[Any, Tensor], Any]) -> None:
        """Take the network, and a function from it and pixel values to its answer."""
        super().__init__()
        self.model = model
        self._embed = embed

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the embeddings [B, D]."""
        return embedding_in(self._embed(self.model, pixel_values))


def embedding_in(answer: Any) -> Tensor:
    """Find the embedding [B, D] in a network's answer: pooled, or the mean over all positions."""
    if isinstance(answer, Tensor):
        return answer
    pooled = getattr(answer, "pooler_output", None)
    if isinstance(pooled, Tensor):
        return pooled.flatten(1)
    hidden: Tensor = answer.last_hidden_state
    # tokens are [B, N, D], a feature map is [B, D, H, W]
    return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)
