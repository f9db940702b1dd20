"""What is refused before a training begins, and what is never imported or run."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.callbacks.training import SmallNetwork, watched
from torch import distributed

from whycam import EngineError, MethodError, NoiseAverage, Preprocessing, TargetError, UsageError
from whycam.callbacks import Epochs, Steps
from whycam.callbacks.drawing import check_whole
from whycam.callbacks.watch import HeatmapWatch

PLAIN = Preprocessing.for_size((24, 24), (0.5,) * 3, (0.5,) * 3)


def test_importing_the_room_imports_no_training_library() -> None:
    code = (
        "import sys, whycam.callbacks\n"
        "heavy = {'torch', 'lightning', 'pytorch_lightning', 'transformers', 'tensorboard', 'wandb'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("images", "options", "error", "reason"),
    [
        (["a.png"], {}, UsageError, "give preprocessing="),
        (watched(), {"preprocessing": PLAIN}, UsageError, "leave preprocessing= out"),
        (torch.zeros(0, 3, 24, 24), {}, UsageError, "at least one image"),
        (watched(), {"method": "gradcamm"}, MethodError, "gradcamm"),
        (watched(), {"target": [0, 1, 2]}, TargetError, "3 targets for 2 images"),
        (watched(), {"colormap": "infernal"}, UsageError, "infernal"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_wrong_is_said_before_a_training_begins(
    images: Any, options: Any, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        HeatmapWatch(images, **options)


@pytest.mark.parametrize("schedule", [Epochs, Steps])
def test_a_schedule_that_never_comes_is_refused(schedule: Any) -> None:
    with pytest.raises(UsageError, match=r"\(0\) would never come"):
        schedule(0)


def test_images_that_change_later_are_no_longer_the_watchs(tmp_path: Path) -> None:
    images = watched()
    watch = HeatmapWatch(images, folder=tmp_path)
    network = SmallNetwork()
    watch.watch(network, 1, list)
    images.zero_()
    watch.watch(network, 2, list)
    first, second = sorted((tmp_path / "gradcam" / "0").iterdir())
    assert first.read_bytes() == second.read_bytes()


def test_a_method_that_draws_noise_draws_the_same_at_every_step(tmp_path: Path) -> None:
    watch = HeatmapWatch(watched(), smoothing=NoiseAverage(2), folder=tmp_path)
    network = SmallNetwork()
    for step in (1, 2):
        torch.rand(step)
        watch.watch(network, step, list)
    first, second = sorted((tmp_path / "gradcam" / "0").iterdir())
    assert first.read_bytes() == second.read_bytes()


@pytest.fixture
def process_group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_weights_that_are_spread_over_processes_are_refused_before_any_forward() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    network = SmallNetwork()
    check_whole(network)
    fully_shard(network.head, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(EngineError, match="spread over several processes"):
        check_whole(network)


def test_weights_that_deepspeed_spreads_are_refused() -> None:
    network = SmallNetwork()
    network.head.weight.ds_id = 3  # type: ignore[assignment]
    with pytest.raises(EngineError, match="explain a saved checkpoint"):
        check_whole(network)
