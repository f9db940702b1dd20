"""Video networks of transformers: clips as torchvision's networks take them, and maps on [T, H, W]."""

from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
import transformers
from PIL import Image
from tests.models.hf_folders import saved
from torch import Tensor

import whycam
from whycam.errors import UsageError
from whycam.models import load

GIVEN: dict[str, Any] = {"size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
FRAMES = {"videomae": 6, "timesformer": 3, "vivit": 6, "vjepa2": 6}
GRID = (3, 4, 4)


def _clips(kind: str, count: int = 2) -> Tensor:
    return torch.randn(count, 3, FRAMES[kind], 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", FRAMES)
def test_clips_with_their_channels_first_give_the_networks_own_answer(kind: str, tmp_path: Path) -> None:
    network = saved(kind, tmp_path)
    model = load(f"hf:{tmp_path}", **GIVEN)
    clips = _clips(kind)
    with torch.no_grad():
        expected = network(clips.transpose(1, 2)).logits
        torch.testing.assert_close(model.module(clips).logits, expected, rtol=1e-4, atol=1e-5)
    assert model.provenance.kind == "file"


def test_a_video_network_without_a_head_gives_embeddings_of_clips(tmp_path: Path) -> None:
    network = saved("videomae_without_head", tmp_path)
    model = load(f"hf:{tmp_path}", **GIVEN)
    clips = _clips("videomae")
    with torch.no_grad():
        expected = network(clips.transpose(1, 2)).last_hidden_state.mean(1)
        torch.testing.assert_close(model.module(clips), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", FRAMES)
def test_the_chosen_layer_has_a_grid_of_time_and_place(kind: str, tmp_path: Path) -> None:
    saved(kind, tmp_path)
    explanation = whycam.explain(load(f"hf:{tmp_path}", **GIVEN).module, _clips(kind))
    assert explanation.maps.shape == (2, *GRID)
    assert explanation.heatmaps().shape == (2, FRAMES[kind], 32, 32)


def _energy(activations: Tensor) -> Tensor:
    return activations.square().sum(1)


@pytest.mark.parametrize("cell", [(0, 0, 0), (2, 0, 3), (1, 3, 0), (0, 2, 1)])
@pytest.mark.parametrize("kind", FRAMES)
def test_what_happens_in_one_place_at_one_time_is_mapped_there(
    kind: str, cell: tuple[int, int, int], tmp_path: Path
) -> None:
    network = saved(kind, tmp_path)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.1)  # nearly nothing is mixed between the tokens, whose own path is the residual
    network.save_pretrained(tmp_path)
    module = load(f"hf:{tmp_path}", **GIVEN).module
    still = torch.zeros(1, 3, FRAMES[kind], 32, 32)
    moved = still.clone()
    length = FRAMES[kind] // GRID[0]
    at, row, column = cell[0] * length, cell[1] * 8, cell[2] * 8
    moved[:, :, at : at + length, row : row + 8, column : column + 8] = 1000
    layer = whycam.choose_layer(module, _clips(kind, 1)).path
    maps = [whycam.explain(module, clip, method=_energy, layer=layer).maps[0] for clip in (still, moved)]
    changed = (maps[1] - maps[0]).abs()
    assert divmod(int(changed.argmax()), 16) == (cell[0], 4 * cell[1] + cell[2])


@pytest.mark.parametrize("kind", ["videomae", "timesformer"])
def test_the_map_lies_where_the_scores_gradient_has_its_energy(kind: str, tmp_path: Path) -> None:
    saved(kind, tmp_path)
    module = load(f"hf:{tmp_path}", **GIVEN).module
    clip = torch.zeros(1, 3, FRAMES[kind], 32, 32)
    length = FRAMES[kind] // GRID[0]
    clip[:, :, -length:, :8, -8:] = 3.0 * torch.randn(3, length, 8, 8)
    clip.requires_grad_()
    score = module(clip).logits[0, 1]
    (gradient,) = torch.autograd.grad(score, clip)
    shares = (gradient * clip).detach().sum(1).reshape(1, 3, length, 4, 8, 4, 8).abs().sum((2, 4, 6))[0]
    assert int(shares.argmax()) == 2 * 16 + 3
    assert float(shares.max() / shares.sum()) > 0.99
    layer = next(name for name, _ in module.named_modules() if name.endswith("embeddings"))
    maps = [
        whycam.explain(module, one, method="hirescam", target=1, layer=layer).maps[0]
        for one in (clip.detach(), torch.zeros_like(clip))
    ]
    assert int((maps[0] - maps[1]).abs().argmax()) == 2 * 16 + 3


@pytest.mark.parametrize("kind", FRAMES)
def test_single_pictures_are_refused_in_one_line(kind: str, tmp_path: Path, refused: Any) -> None:
    saved(kind, tmp_path)
    model = load(f"hf:{tmp_path}", **GIVEN)
    with refused(UsageError, "takes no single pictures", "[B, C, T, H, W]"):
        model.prepare([Image.new("RGB", (40, 40))])


def test_frames_are_made_as_the_video_processor_makes_them(tmp_path: Path) -> None:
    processor = transformers.VideoMAEImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
    )
    network = saved("videomae", tmp_path, processor)
    model = load(f"hf:{tmp_path}")
    frames = [Image.fromarray(skimage.data.astronaut()[start:, : 300 + start]) for start in range(0, 60, 10)]
    shown = processor([frames], return_tensors="pt")["pixel_values"]
    clip = torch.stack([model.preprocessing.apply(frame)[0] for frame in frames], 1)[None]
    assert float((clip.transpose(1, 2) - shown).abs().max()) * 127.5 < 2.01
    with torch.no_grad():
        torch.testing.assert_close(model.module(clip).logits, network(shown).logits, rtol=0.02, atol=0.05)
