"""Similarity is the cosine to a given embedding, wherever the outputs keep the image's."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from whycam.errors import TargetError
from whycam.targets import PerImage, Similarity, as_target, join_targets

EMBEDDINGS = torch.tensor([[3.0, 0.0, 4.0], [0.0, 2.0, 0.0]])
GIVEN = torch.tensor([0.0, 0.0, 7.0])


def test_it_is_the_cosine_and_does_not_know_lengths() -> None:
    assert Similarity(GIVEN)(EMBEDDINGS).tolist() == pytest.approx([0.8, 0.0])
    assert Similarity(-GIVEN * 1e-3)(EMBEDDINGS * 5).tolist() == pytest.approx([-0.8, 0.0])
    assert Similarity(GIVEN[None])(EMBEDDINGS).tolist() == pytest.approx([0.8, 0.0])
    each = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert Similarity(each)(EMBEDDINGS).tolist() == pytest.approx([0.6, 1.0])


def test_embeddings_are_found_in_containers() -> None:
    other = torch.zeros(2, 5, 3)
    for outputs in (
        {"last_hidden_state": other, "pooler_output": EMBEDDINGS},
        {"pooler_output": other, "image_embeds": EMBEDDINGS},
        SimpleNamespace(image_embeds=EMBEDDINGS),
        (EMBEDDINGS, other),
    ):
        assert Similarity(GIVEN)(outputs).tolist() == pytest.approx([0.8, 0.0])


def test_an_embedding_made_in_inference_mode_can_be_compared_with_autograd_on() -> None:
    with torch.inference_mode():
        given = GIVEN * 2
    images = EMBEDDINGS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Similarity(given)(images).sum(), images)
    assert gradient.abs().sum() > 0


def test_parts_and_joins_are_their_images_own() -> None:
    each = Similarity(EMBEDDINGS.flip(0))
    whole = each(EMBEDDINGS)
    halves = [each.part(i, i + 1) for i in range(2)]
    assert [float(half(EMBEDDINGS[i : i + 1])) for i, half in enumerate(halves)] == whole.tolist()
    joined = join_targets(halves, [1, 1])
    assert isinstance(joined, Similarity)
    assert torch.equal(joined(EMBEDDINGS), whole)
    one = Similarity(GIVEN)
    assert one.part(0, 1) is one
    named = join_targets([Similarity(GIVEN, "a"), Similarity(GIVEN, "b")], [1, 1])
    assert isinstance(named, PerImage)
    with pytest.raises(TargetError, match="2 targets for 3 images"):
        as_target(each, 3)


@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(3),
        torch.tensor([1.0, torch.nan]),
        torch.ones(2, 3, 4),
        torch.ones(3).long(),
        torch.ones(0),
    ],
)
def test_what_has_no_direction_is_refused_at_once(given: torch.Tensor) -> None:
    with pytest.raises(TargetError, match="embedding") as caught:
        Similarity(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("outputs", [torch.zeros(2, 3, 4), {"logits": EMBEDDINGS}, [], None])
def test_outputs_without_embeddings_are_refused(outputs: Any) -> None:
    with pytest.raises(TargetError, match=r"needs embeddings \[batch, features\].*image_embeds"):
        Similarity(GIVEN)(outputs)


def test_another_space_is_refused_with_both_sizes() -> None:
    with pytest.raises(TargetError, match="given embedding has 2 features and the image's 3"):
        Similarity(torch.ones(2))(EMBEDDINGS)
    assert Similarity(GIVEN, "the text 'a dog'").describe() == "similarity to the text 'a dog'"
