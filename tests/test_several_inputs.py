"""Models of transformers that take more than pixels, given what a processor returns for them."""

import pytest
import torch
import transformers
from tests.detectors import small_detr

import whycam

NARROW = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}


@pytest.fixture(scope="module")
def clip() -> torch.nn.Module:
    torch.manual_seed(0)
    vision = NARROW | {"image_size": 96, "patch_size": 16}
    text = NARROW | {"vocab_size": 99, "bos_token_id": 97, "eos_token_id": 98, "pad_token_id": 0}
    return transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=text)).eval()


def texts_and(images: torch.Tensor) -> dict[str, torch.Tensor]:
    tokens = torch.tensor([[97, 2, 98], [97, 4, 98]])
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "pixel_values": images}


def test_an_image_text_model_is_explained_for_one_of_the_texts_beside_the_images(
    clip: torch.nn.Module,
) -> None:
    inputs = texts_and(torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1)))
    found = whycam.explain(clip, inputs, target=1)
    with torch.no_grad():
        expected = clip(**inputs).logits_per_image[:, 1]
    torch.testing.assert_close(found.scores, expected)
    assert found.maps.shape == (3, 6, 6)
    other = whycam.explain(clip, inputs, target=0, layer=found.layer)
    assert not torch.allclose(found.maps, other.maps)


def test_a_batch_size_leaves_the_texts_whole(clip: torch.nn.Module) -> None:
    inputs = texts_and(torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1)))
    whole = whycam.explain(clip, inputs, target=1)
    parts = whycam.explain(clip, inputs, target=1, batch_size=2)
    torch.testing.assert_close(whole.maps, parts.maps)
    torch.testing.assert_close(whole.outputs.logits_per_image, parts.outputs.logits_per_image)
    torch.testing.assert_close(whole.outputs.logits_per_text, parts.outputs.logits_per_text)
    torch.testing.assert_close(whole.outputs.text_embeds, parts.outputs.text_embeds)


def test_a_detector_gets_its_mask_of_pixels() -> None:
    torch.manual_seed(0)
    detector = small_detr().eval()
    images = torch.randn(2, 3, 128, 160, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 128, 160)
    mask[1, :, 96:] = 0
    target = whycam.BoxScore(threshold=0.0)
    whole = whycam.explain(
        detector, {"pixel_values": images, "pixel_mask": torch.ones_like(mask)}, target=target
    )
    part = whycam.explain(
        detector, {"pixel_values": images, "pixel_mask": mask}, target=target, layer=whole.layer
    )
    assert whole.maps.shape == (2, 16, 20)
    torch.testing.assert_close(whole.scores[0], part.scores[0])
    assert not torch.allclose(whole.scores[1], part.scores[1])
