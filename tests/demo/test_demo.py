import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import whycam.demo
from whycam.demo import demo_images, demo_labels, demo_masks, demo_metadata, demo_network
from whycam.errors import ModelError

FOLDER = Path(whycam.demo.__file__).parent
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def logits() -> torch.Tensor:
    metadata = demo_metadata()
    images = torch.stack([torch.from_numpy(pixels(path).copy()) for path in demo_images()])
    scaled = images.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(metadata[name]).reshape(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        return demo_network()((scaled - mean) / std)


def test_the_network_names_the_digit_in_22_of_the_24_images_or_more():
    metadata = demo_metadata()
    predicted = [metadata["classes"][index] for index in logits().argmax(1).tolist()]
    right = sum(guess == label for guess, label in zip(predicted, demo_labels(), strict=True))
    assert len(predicted) == 24
    assert right >= 22


def test_held_out_accuracy_is_97_percent_or_more_over_2000_scenes_or_more():
    held_out = demo_metadata()["held_out"]
    assert held_out["accuracy"] >= 0.97
    assert held_out["n"] >= 2000
    low, high = held_out["interval95"]
    assert low <= held_out["accuracy"] <= high


def test_rounding_the_weights_to_float16_cost_no_accuracy():
    held_out = demo_metadata()["held_out"]
    assert held_out["accuracy"] == pytest.approx(held_out["accuracy_before_rounding_to_float16"], abs=0.001)


def test_the_network_comes_trained_in_eval_mode_and_float32():
    network = demo_network()
    assert not network.training
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert sum(parameter.numel() for parameter in network.parameters()) == demo_metadata()["parameters"]


def test_each_call_gives_a_network_of_its_own():
    first, second = demo_network(), demo_network()
    with torch.no_grad():
        first.head.bias.add_(1)
    assert not torch.equal(first.head.bias, second.head.bias)


def test_files_match_the_metadatas_sha256_and_none_is_missing_from_it():
    digests = demo_metadata()["sha256"]
    shipped = [FOLDER / "weights.safetensors", FOLDER / "labels.csv", *demo_images(), *demo_masks()]
    found = {
        path.relative_to(FOLDER).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in shipped
    }
    assert found == digests


def test_images_masks_and_labels_are_in_one_order():
    images, masks, labels = demo_images(), demo_masks(), demo_labels()
    assert [path.name for path in images] == [path.name for path in masks]
    assert [path.name for path in images] == [
        f"{index:02d}-{WORDS[int(label)]}.png" for index, label in enumerate(labels)
    ]


def test_every_class_is_shown_twice_or_three_times():
    labels = demo_labels()
    assert {labels.count(name) for name in demo_metadata()["classes"]} == {2, 3}


def test_masks_are_one_bit_pictures_of_their_images_size_with_a_digit_in_them():
    for image, mask in zip(demo_images(), demo_masks(), strict=True):
        with Image.open(image) as picture, Image.open(mask) as truth:
            assert (picture.mode, picture.size) == ("RGB", (96, 96))
            assert (truth.mode, truth.size) == ("1", (96, 96))
            # from a 24 pixel digit's thin stroke to a 48 pixel square
            assert 100 < np.asarray(truth).sum() < 48 * 48


def test_digits_differ_from_what_surrounds_them():
    luma = np.array([0.299, 0.587, 0.114])
    for image, mask in zip(demo_images(), demo_masks(), strict=True):
        bright, digit = pixels(image) @ luma / 255, pixels(mask)
        # one colour inside, but for the blended edge
        assert np.quantile(np.abs(bright[digit] - np.median(bright[digit])), 0.5) < 0.01
        rows, columns = np.where(digit)
        box = np.zeros_like(digit)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        assert abs(bright[digit].mean() - bright[box & ~digit].mean()) > 0.1


def test_digits_lie_away_from_the_centre_too():
    centres = np.array([np.argwhere(pixels(path)).mean(0) for path in demo_masks()])
    assert (np.abs(centres - 47.5).max(1) > 16).sum() >= 6


def test_everything_shipped_stays_under_one_and_a_half_megabytes():
    files = [path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 1_500_000
    assert (FOLDER / "weights.safetensors").stat().st_size < 1_000_000


def test_every_photograph_is_credited_with_its_licence():
    credits = (FOLDER / "LICENSES.md").read_text(encoding="utf-8")
    rows = [line for line in credits.splitlines() if line.startswith("| [")]
    assert len(rows) == len(demo_metadata()["photographs"])
    assert all("CC0 1.0" in row or "CC BY 2.0" in row for row in rows)
    assert "CC BY 4.0" in credits
    for image in demo_images():
        assert sum(image.stem in row for row in rows) == 1


def test_the_paths_and_labels_are_had_without_torch_or_the_packages_that_made_them():
    code = (
        "import sys, whycam.demo as demo; demo.demo_images(), demo.demo_masks(), demo.demo_labels(), "
        "demo.demo_metadata(); print(sorted({'torch', 'sklearn', 'skimage'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_network_is_had_without_the_packages_that_made_it():
    code = (
        "import sys, whycam.demo as demo; demo.demo_network(); import whycam.evaluation; "
        "print(sorted({'sklearn', 'skimage'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_package_inside_an_archive_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(whycam.demo, "files", lambda _: "whycam.zip/whycam/demo")
    with pytest.raises(ModelError, match="expected plain files on disk"):
        demo_images()
