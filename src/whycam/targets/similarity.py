"""Targets of embedding models: how near an image is to a text, to another image, to any vector."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from whycam.errors import TargetError
from whycam.targets.base import Target, miscount
from whycam.targets.outputs import Outputs, described, main_tensor, wide
from whycam.types import Rows, Scores

EMBEDDINGS = ("image_embeds", "image_features", "pooler_output")


def embedding_of(outputs: Outputs) -> Float[Tensor, "batch features"]:
    """Return the images' embeddings [B, D] inside a model's outputs, in float32 or wider.

    Takes a tensor, ``image_embeds``, ``image_features`` or ``pooler_output`` of a dict or model output, or
    the first entry of a tuple. Raises TargetError for anything else.
    """
    found = main_tensor(outputs, EMBEDDINGS)
    if found is None or found.ndim != 2 or not found.is_floating_point():
        raise TargetError(
            f"the model returned {described(outputs)}; Similarity needs embeddings [batch, features]: a "
            f"tensor, or an entry {', '.join(EMBEDDINGS)}"
        )
    return wide(found)


@dataclass(frozen=True, eq=False)
class Similarity(Target):
    """The cosine [-1, 1] between the image's embedding and a given one: a text's, another image's.

    ``embedding`` is [D] or [1, D] for all images, or [B, D] with one an image; ``name`` says in the
    description what it stands for.
    """

    embedding: Tensor
    name: str = "a given embedding"

    def __post_init__(self) -> None:
        """Refuse what has no direction."""
        given = self.embedding
        if not isinstance(given, Tensor) or given.ndim not in (1, 2) or not given.is_floating_point():
            raise TargetError(
                f"the embedding is {described(given)}; expected floats [features], or [batch, features]"
            )
        lengths = wide(given.detach()).norm(dim=-1)
        if not given.numel() or not bool(((lengths > 0) & lengths.isfinite()).all()):
            raise TargetError(
                "an embedding is empty, zero or not finite, so it has no direction; give another one"
            )

    def __call__(self, outputs: Outputs) -> Scores:
        """Return the cosines [B]."""
        found = embedding_of(outputs)
        # clone: what was made in inference mode is no matter for autograd
        given = self.embedding.detach().to(found.device, found.dtype).clone()
        if given.shape[-1] != found.shape[1]:
            raise TargetError(
                f"the given embedding has {given.shape[-1]} features and the image's {found.shape[1]}; "
                "give one from the same embedding space"
            )
        if self.count() not in (None, len(found)):
            raise TargetError(miscount(len(given), len(found)))
        return F.cosine_similarity(found, given, dim=-1)

    def select(self, rows: Rows) -> "Similarity":
        """Return the embeddings of these images."""
        if self.count() is None:
            return self
        return replace(self, embedding=self.embedding[rows.to(self.embedding.device)])

    def join(self, others: Sequence["Similarity"], counts: Sequence[int]) -> "Similarity | None":
        """Return the embeddings of all batches."""
        every = (self, *others)
        if any(one.name != self.name for one in others):
            return None
        each = [
            one.embedding.expand(count, one.embedding.shape[-1])
            for one, count in zip(every, counts, strict=True)
        ]
        return replace(self, embedding=torch.cat(each))

    def count(self) -> int | None:
        """Return the number of embeddings, or None where one is for all."""
        one_for_all = self.embedding.ndim == 1 or len(self.embedding) == 1
        return None if one_for_all else len(self.embedding)

    def of_class_scores(self) -> bool:
        """Say that the outputs are embeddings, and none of their entries a predicted class."""
        return False

    def describe(self) -> str:
        """Name what the image is compared with."""
        return f"similarity to {self.name}"
