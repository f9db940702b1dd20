"""What the docs tell a reader to type works as it stands, and both READMEs tell the same."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from whycam.demo import demo_images
from whycam.methods import METHODS

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("whycam ")]


def without_comments(block: str) -> str:
    return re.sub(r"\s*#.*", "", block)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the photograph that the docs speak of, of a size that fits no model."""
    Image.open(demo_images()[0]).convert("RGB").resize((301, 223)).save(tmp_path / "photo.jpg")
    return tmp_path


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "2"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", commands(ROOT / "README.md"))
def test_a_command_of_the_readme_works(command: str, desk: Path) -> None:
    done = run(["-m", "whycam", *shlex.split(command, comments=True)[1:]], desk)
    assert done.returncode == 0, done.stderr


def test_the_readmes_python_works(desk: Path) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    done = run(["-c", code], desk)
    assert done.returncode == 0, done.stderr
    assert "deepest layer" in done.stdout
    assert (desk / "overlay.png").stat().st_size > 0


def test_the_run_folder_page_works(desk: Path) -> None:
    assert run(["-m", "whycam", "explain", "demo", "photo.jpg", "--out", "run"], desk).returncode == 0
    (code,) = blocks(ROOT / "docs" / "run-folder.md", "python")
    done = run(["-c", code], desk)
    assert "photo.jpg gradcam (12, 12)" in done.stdout, done.stderr


@pytest.fixture
def checkpoints(desk: Path) -> Path:
    """The files that the page on weights speaks of, beside the photograph."""
    import timm
    import torch

    network = timm.create_model("resnet18", num_classes=3)
    torch.save({"state_dict": network.state_dict()}, desk / "best.pth")
    torch.save(
        {key: value for key, value in network.state_dict().items() if "fc" not in key}, desk / "part.pth"
    )
    torch.save(network.fc, desk / "whole-model.pth")
    (desk / "names.txt").write_text("cat\ndog\nno\n")
    (desk / "weights").mkdir()
    (yaml,) = blocks(ROOT / "docs" / "weights.md", "yaml")
    (desk / "prep.yaml").write_text(yaml)
    return desk


def test_the_commands_of_the_weights_page_work(checkpoints: Path) -> None:
    # one process for all of them: most of the time goes into the imports
    arguments = [shlex.split(command)[1:] for command in commands(ROOT / "docs" / "weights.md")]
    code = f"import whycam.cli; print([whycam.cli.run(words) for words in {arguments!r}])"
    done = run(["-c", code], checkpoints)
    assert done.stdout.splitlines()[-1:] == [str([0] * len(arguments))], done.stderr
    assert (checkpoints / "whole-model.safetensors").stat().st_size > 0


@pytest.fixture
def models(checkpoints: Path) -> Path:
    """The models that the page on one's own model speaks of, beside the checkpoints."""
    import torch
    import transformers

    torch.manual_seed(0)
    narrow = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    config = transformers.ViTConfig(**narrow, image_size=96, patch_size=16, num_labels=3)
    transformers.ViTForImageClassification(config).save_pretrained(checkpoints / "my-vit")
    transformers.ViTImageProcessor(size={"height": 96, "width": 96}).save_pretrained(checkpoints / "my-vit")
    page = ROOT / "docs" / "my-model.md"
    network, _ = blocks(page, "python")
    (checkpoints / "network.py").write_text(network)
    (checkpoints / "prep.yaml").write_text(blocks(page, "yaml")[0])
    code = "import torch; from network import small; torch.save(small(4).state_dict(), 'own.pth')"
    assert run(["-c", code], checkpoints).returncode == 0
    return checkpoints


def test_the_page_on_ones_own_model_works(models: Path) -> None:
    page = ROOT / "docs" / "my-model.md"
    arguments = [shlex.split(command)[1:] for command in commands(page)]
    assert len(arguments) == 7
    code = f"import whycam.cli; print([whycam.cli.run(words) for words in {arguments!r}])"
    done = run(["-W", "default", "-c", code], models)
    assert done.stdout.splitlines()[-1:] == [str([0] * len(arguments))], done.stderr
    overlays = {folder.name: len(list(folder.glob("overlays/*.png"))) for folder in models.glob("run-*")}
    assert overlays == dict.fromkeys(["run-timm", "run-hf", "run-words", "run-own", "run-box", "run-mask"], 1)


def test_the_python_of_the_page_on_ones_own_model_works(models: Path) -> None:
    _, code = blocks(ROOT / "docs" / "my-model.md", "python")
    done = run(["-c", code], models)
    assert done.returncode == 0, done.stderr
    assert (models / "overlay.png").stat().st_size > 0


def test_both_readmes_give_the_same_commands_and_code() -> None:
    english, chinese = READMES
    assert commands(english) == commands(chinese)
    pairs = zip(blocks(english, "python"), blocks(chinese, "python"), strict=True)
    assert all(without_comments(one) == without_comments(other) for one, other in pairs)
    links = [
        sorted(re.findall(r"\]\((?!README)([^)]+)\)", page.read_text("utf-8").replace(".zh-CN.md", ".md")))
        for page in READMES
    ]
    assert links[0] == links[1]


@pytest.mark.parametrize("page", [*READMES, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"])
def test_every_link_leads_to_a_file(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", [*READMES, ROOT / "docs" / "methods.md"])
def test_every_method_is_in_the_table(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [name for name in METHODS if f"`{name}`" not in text] == []


def test_the_benchmarks_table_has_every_candidate_of_every_setting() -> None:
    from benchmarks.peers import BATCHES, SETTINGS, candidates

    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").split("<!-- peers -->")[1]
    rows = re.findall(r"^\| (.+?) \| (\d+) \| (.+?) \| (1|[\d.]+)( \(\d+ ms\))? \|", page, flags=re.MULTILINE)
    times = [row[:3] for row in rows if "." in row[3] or row[4]]
    memory = [row[:3] for row in rows if "." not in row[3] and not row[4]]
    assert times == [
        (s.title, str(batch), name) for s in SETTINGS for batch in BATCHES for name in candidates(s)
    ]
    assert memory == [(s.title, str(BATCHES[-1]), name) for s in SETTINGS for name in candidates(s)]
