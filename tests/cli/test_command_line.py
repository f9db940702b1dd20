"""The command line from outside: exit codes, one-line errors, JSON that stays alone on stdout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

HEAVY = ("torch", "timm", "torchvision", "pyarrow", "matplotlib", "PIL", "numpy", "safetensors")
RESNET = ("timm:test_resnet", "--device", "cpu")


@pytest.fixture(scope="module")
def run(whycam: Any, mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run over good and broken pictures, said in JSON."""
    out = tmp_path_factory.mktemp("runs") / "mixed"
    methods = ("-m", "gradcam", "--method", "layercam")
    return whycam("explain", *RESNET, mixed, *methods, "--batch-size", 3, "--out", out, "--json"), out


def test_some_failed_images_exit_with_1_and_the_others_are_done(run: Any, mixed: Path) -> None:
    done, out = run
    assert done.code == 1
    table = pq.read_table(out / "explanations.parquet").to_pylist()
    assert len(table) == 2 * 10
    bad = {"cut.png", "empty.png", "text.png", "html.jpg"}
    assert {row["id"] for row in table if row["error"]} == bad
    for row in table:
        if row["id"] in bad:
            assert row["map"] is None
        else:
            assert (out / row["overlay"]).is_file()
            assert len(row["map"]) == 25
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.height > 6 * 200


def test_json_is_one_object_alone_on_stdout(run: Any) -> None:
    done, out = run
    said = done.json
    assert said["run"] == str(out)
    assert (said["images"], said["done"], said["failed"]) == (10, 6, 4)
    assert {failure["id"] for failure in said["first_failures"]} == {
        "cut.png",
        "empty.png",
        "text.png",
        "html.jpg",
    }
    assert said["model"]["weights"] == "random"
    assert said["layer"]["paths"] == ["layer4"]
    assert said["methods"] == ["gradcam", "layercam"]


def test_each_failed_image_is_one_line_on_stderr(run: Any) -> None:
    lines = run[0].err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["warning", *["failed"] * 4]
    assert "random weights" in lines[0]


def test_the_manifest_says_that_the_weights_are_random(run: Any) -> None:
    manifest = json.loads((run[1] / "manifest.json").read_text())
    assert manifest["model"]["provenance"].startswith("random weights")
    assert manifest["command"][:2] == ["whycam", "explain"]
    assert (manifest["failures"], manifest["finished"]) == (4, True)


def test_a_run_that_is_there_is_refused_and_resumed_but_for_what_failed(
    run: Any, whycam: Any, mixed: Path
) -> None:
    out = run[1]
    again = ("explain", *RESNET, mixed, "-m", "gradcam", "-m", "layercam", "--out", out)
    refused = whycam(*again)
    assert refused.code == 2
    assert "--resume" in refused.error_line
    resumed = whycam(*again, "--resume")
    assert resumed.code == 1
    assert resumed.out.startswith("6 images explained; 6 of 10 were finished before\n")
    assert resumed.out.splitlines()[-1] == "4 of 10 images failed"
    other = whycam("explain", *RESNET, mixed, "--out", out, "--resume")
    assert other.code == 2
    assert "made with other settings" in other.error_line


def test_a_target_given_by_name_is_shown_with_its_name(
    whycam: Any, factory: tuple[str, ...], photograph: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("行人\n汽车\n自行车-红\n自行车-蓝\n", "utf-8")
    done = whycam(
        *("explain", *factory, photograph, "--out", tmp_path / "run", "--device", "cpu"),
        *("--classes", names, "--target", "自行车-红"),
    )
    assert done.code == 0, done.err
    assert "  target    class 2 (自行车-红)" in done.out.splitlines()


def test_the_preprocessing_of_a_factorys_timm_network_is_noted_on_stderr(whycam: Any, tmp_path: Path) -> None:
    import safetensors.torch
    import timm

    (tmp_path / "net.py").write_text(
        "import timm\n\ndef make():\n    return timm.create_model('test_resnet', num_classes=3)\n"
    )
    weights = timm.create_model("test_resnet", num_classes=3).state_dict()
    safetensors.torch.save_file(weights, tmp_path / "net.safetensors")
    for options in ((), ("--weights", tmp_path / "net.safetensors")):
        done = whycam("layers", f"{tmp_path / 'net.py'}:make", *options, "--device", "cpu")
        (note,) = (line for line in done.err.splitlines() if "pretrained_cfg" in line)
        assert note.startswith("note: ")


def test_resnet50_explains_a_real_photograph_and_says_that_its_weights_are_random(
    whycam: Any, photograph: Path, tmp_path: Path
) -> None:
    done = whycam("explain", "timm:resnet50", photograph, "--out", tmp_path / "run", "--device", "cpu")
    assert done.code == 0
    assert "warning: timm:resnet50 has random weights" in done.err
    assert done.out.startswith("1 image explained\n")
    assert "layer4" in done.out
    (picture,) = (tmp_path / "run" / "overlays").iterdir()
    with Image.open(picture) as overlay:
        assert overlay.size == (451, 300)


def test_a_vision_transformer_a_contrast_several_layers_and_smoothing(
    whycam: Any, photograph: Path, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"kind-{index}" for index in range(1000)))
    done = whycam(
        *("explain", "timm:test_vit", photograph, "--out", tmp_path / "run", "--device", "cpu"),
        *("--target", "kind-3-kind-5", "--classes", names, "--smoothing", "flip"),
        *("--layer", "blocks.3", "--layer", "blocks.4", "--method", "hirescam"),
        *("--opacity", "constant", "--colormap", "viridis", "--json"),
    )
    assert done.code == 0, done.err
    assert done.json["target"] == "class 3 rather than class 5"
    assert done.json["layer"]["paths"] == ["blocks.3", "blocks.4"]
    (row,) = pq.read_table(tmp_path / "run" / "explanations.parquet").to_pylist()
    assert (row["target_class"], row["grid"]) == (3, [10, 10])
    assert row["prediction_name"].startswith("kind-")


def test_a_factory_may_talk_on_stdout_and_json_stays_alone(
    whycam: Any, factory: Any, photograph: Path, tmp_path: Path
) -> None:
    done = whycam("explain", *factory, photograph, "--out", tmp_path / "run", "--json")
    assert done.code == 0
    assert done.json["model"]["weights"] == "factory"
    assert "a factory that talks on stdout" in done.err
    assert "note: " in done.err


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("explain", "timm:resnet5", "PHOTO"), "ModelError", "did you mean 'resnet50'"),
        (("explain", "resnet50", "PHOTO"), "ModelError", "timm:resnet50"),
        (("explain", *RESNET, "PHOTO", "--layer", "layer5"), "LayerError", "did you mean layer4"),
        (("explain", *RESNET, "PHOTO", "--layer", "fc"), "LayerError", "whycam layers"),
        (("explain", *RESNET, "PHOTO", "--method", "gradcan"), "MethodError", "did you mean gradcam"),
        (("explain", *RESNET, "PHOTO", "--target", "1000"), "TargetError", "1000 classes"),
        (("explain", *RESNET, "PHOTO", "--target", "cat"), "TargetError", "--classes FILE"),
        (("explain", *RESNET, "PHOTO", "--weights", "absent.pth"), "WeightsError", "does not exist"),
        (("explain", *RESNET, "PHOTO", "--weights", "PHOTO"), "WeightsError", "chelsea.png"),
        (("explain", *RESNET, "PHOTO", "--classes", "absent.txt"), "ModelError", "absent.txt"),
        (("explain", *RESNET, "absent.jpg"), "UsageError", "absent.jpg"),
        (("explain", *RESNET, "PHOTO", "--size", "big"), "UsageError", "--size is 'big'"),
        (("explain", *RESNET, "PHOTO", "--smoothing", "blur"), "UsageError", "flip, noise"),
        (("explain", *RESNET, "PHOTO", "--colormap", "infernal"), "UsageError", "infernal"),
        (("explain", *RESNET, "PHOTO", "--batch-size", "0"), "UsageError", "--batch-size"),
        (("explain", "timm:test_resnet", "PHOTO", "--device", "abacus"), "UsageError", "abacus"),
        (("explain", "FACTORY:small", "PHOTO"), "ModelError", "--size --mean --std"),
        (("explain", "FACTORY:broken", "PHOTO"), "ModelError", "no such layer"),
        (("explain", *RESNET, "PHOTO", "--smoothing", "first-component", "-m", "fem"), "MethodError", "fem"),
        (("explain", *RESNET), "UsageError", "SOURCE"),
        (("explain", *RESNET, "PHOTO", "--colour", "red"), "UsageError", "--colour"),
        (("layers", "timm:test_resnet", "--image", "absent.jpg"), "ImageError", "absent.jpg"),
        (("explan",), "UsageError", "explain"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_mend_and_exits_with_2(
    whycam: Any,
    photograph: Path,
    factory: Any,
    tmp_path: Path,
    arguments: tuple[str, ...],
    kind: str,
    said: str,
) -> None:
    file = factory[0].removesuffix(":small")
    words = [word.replace("PHOTO", str(photograph)).replace("FACTORY", file) for word in arguments]
    done = whycam(*words, "--json", cwd=tmp_path)
    assert done.code == 2
    assert said in done.error_line
    assert "Traceback" not in done.err
    assert done.json == {"error": done.error_line.removeprefix("error: "), "kind": kind}
    assert list(tmp_path.iterdir()) == []


def test_without_json_an_error_leaves_stdout_empty(whycam: Any) -> None:
    done = whycam("layers", "timm:resnet5")
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1


def test_a_bug_is_one_line_and_a_traceback_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from whycam import cli

    monkeypatch.setattr(cli, "app", lambda **options: 1 / 0)
    assert cli.run(["methods"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: unexpected ZeroDivisionError: division by zero; this is a bug")
    assert said.err.count("\n") == 1
    monkeypatch.setenv("WHYCAM_DEBUG", "1")
    assert cli.run(["methods"]) == 2
    said = capsys.readouterr()
    assert "Traceback" in said.err
    assert said.err.splitlines()[-1].startswith("error: unexpected ZeroDivisionError")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(whycam: Any, photograph: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = whycam("explain", *RESNET, photograph, "--out", tmp_path / "run")
    assert done.code == 2
    assert "cannot write run folder" in done.error_line


def test_a_place_that_cannot_hold_a_folder_is_one_line(whycam: Any, photograph: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "run", "/proc/self/run"):
        done = whycam("explain", *RESNET, photograph, "--out", out)
        assert done.code == 2, out
        assert done.err.count("error:") == 1
        assert "Traceback" not in done.err


def test_layers_names_the_layer_and_the_others(whycam: Any, photograph: Path) -> None:
    said = whycam("layers", "timm:test_vit", "--all", "--json").json
    assert (said["path"], said["layout"], said["grid"], said["traced"]) == ("blocks.4", "NLC", [10, 10], None)
    assert said["input"] == [3, 160, 160]
    assert {candidate["path"] for candidate in said["candidates"]} > {"blocks.4", "blocks.3"}
    text = whycam("layers", "timm:test_vit", "--image", photograph)
    assert text.code == 0
    assert text.out.startswith("blocks.4 is explained: ")
    assert str(photograph) in text.out
    assert "more with an objection: --all" in text.out


def test_methods_are_those_of_the_registry(whycam: Any) -> None:
    from whycam.methods import METHODS

    said = whycam("methods", "--json").json["methods"]
    assert [method["name"] for method in said] == list(METHODS)
    assert all(
        method["cost"] and method["needs"] and method["source"] and method["summary"] for method in said
    )
    text = whycam("methods").out
    for name, method in METHODS.items():
        assert any(line.startswith(f"{name} ") and method.source in line for line in text.splitlines())


def test_help_and_version_import_nothing_heavy() -> None:
    check = "import sys; from whycam.cli import run; code = run(sys.argv[1:]); print(*sys.modules, code)"
    for arguments in (
        ["--help"],
        ["--version"],
        ["explain", "--help"],
        ["demo", "--help"],
        ["methods", "-h"],
        [],
    ):
        done = subprocess.run(
            [sys.executable, "-c", check, *arguments], capture_output=True, text=True, check=True
        )
        *modules, code = done.stdout.splitlines()[-1].split()
        assert code == ("0" if arguments else "2")
        assert {name.split(".")[0] for name in modules} & set(HEAVY) == set()
        assert "whycam" in done.stdout


def test_the_module_and_the_console_script_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("whycam")
    said = [
        subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        for command in ([sys.executable, "-m", "whycam"], [str(script)])
    ]
    assert said[0] == said[1]
    assert said[0].startswith("whycam ")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_a_reader_that_goes_away_leaves_no_traceback(arguments: list[str]) -> None:
    ends = os.pipe()
    os.close(ends[0])
    with os.fdopen(ends[1], "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "whycam", *arguments],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode == 141


def test_a_bar_is_drawn_on_a_terminal_and_not_with_json(whycam: Any, mixed: Path, tmp_path: Path) -> None:
    drawn = []
    for more in ((), ("--json",)):
        controller, terminal = os.openpty()
        out = tmp_path / f"run{len(more)}"
        arguments = ("explain", *RESNET, mixed / "good0.png", "--out", out, *more)
        whycam(*arguments, stderr=os.ttyname(terminal), TERM="xterm")
        os.set_blocking(controller, False)
        drawn.append(os.read(controller, 100_000).decode())
        os.close(controller)
        os.close(terminal)
    assert "explaining" in drawn[0]
    assert "explaining" not in drawn[1]
