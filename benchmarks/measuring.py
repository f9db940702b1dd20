"""How the benchmarks measure: interleaved ratios, peak memory in a process of its own, on a CPU or CUDA."""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import timm
import torch
from torch import Tensor, nn

Run = Callable[[Tensor], Any]
PACKAGES = ("torch", "timm", "grad-cam", "torchcam", "captum", "quantus")


@dataclass(frozen=True)
class Place:
    """Where and in which numbers a benchmark runs; on CUDA the model's channels are last in memory."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def model(self, name: str) -> nn.Module:
        """Return timm's model with random weights, in eval mode."""
        torch.manual_seed(0)
        made: nn.Module = timm.create_model(name).eval()
        made.to(self.device, self.dtype)
        return made if self.device == "cpu" else made.to(memory_format=torch.channels_last)

    def images(self, batch: int, size: int = 224) -> Tensor:
        """Return noise [batch, 3, size, size], always the same."""
        drawn = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
        return drawn.to(self.device, self.dtype)

    def wait(self) -> None:
        """Wait for what the device was told to do."""
        if self.device != "cpu":
            torch.cuda.synchronize()

    def seconds(self, run: Run, images: Tensor) -> float:
        """Return how long one run takes."""
        self.wait()
        start = time.perf_counter()
        run(images)
        self.wait()
        return time.perf_counter() - start

    def options(self) -> list[str]:
        """Return the command line's options that give this place."""
        return ["--device", self.device, "--dtype", str(self.dtype).removeprefix("torch.")]

    def describe(self) -> str:
        """Name the machine, the numbers and the versions."""
        memory = psutil.virtual_memory().total / 2**30
        what = f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; {torch.get_num_threads()} threads"
        if self.device != "cpu":
            what = f"{torch.cuda.get_device_name()}, channels last; {what}"
        numbers = str(self.dtype).removeprefix("torch.")
        return f"{what}; {numbers}; {platform.system()}, Python {platform.python_version()}; {_versions()}."


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a benchmark runs."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")


def place_of(arguments: argparse.Namespace) -> Place:
    """Return the place that the options name; ends the program where there is no such device."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("there is no CUDA device; leave --device out")
    return Place(arguments.device, getattr(torch, arguments.dtype))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1] for line in lines if "model name" in line]
    return names[0].strip() if names else platform.processor() or platform.machine()


def _versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name).split('+')[0]}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def bare(model: nn.Module) -> Run:
    """Return a forward without autograd, as a prediction is made."""

    def run(images: Tensor) -> Any:
        with torch.no_grad():
            return model(images)

    return run


def ratios(
    place: Place, model: nn.Module, images: Tensor, runs: Mapping[str, Run], rounds: int
) -> tuple[dict[str, list[float]], list[float]]:
    """Return each run's times over a bare forward's of the same moment, and the forwards' seconds.

    All runs go in turn, in a new order each round, each beside a forward of its own, now before it and now
    after it: what disturbs the machine disturbs both. A single round has no run before it to warm up.
    """
    forward = bare(model)
    for run in (forward, *runs.values()) if rounds > 1 else (forward, forward):
        for _ in range(2 if rounds > 3 else 1):
            run(images.clone())
    found: dict[str, list[float]] = {name: [] for name in runs}
    forwards: list[float] = []
    shuffle = random.Random(0)
    for _ in range(rounds):
        order = list(runs)
        shuffle.shuffle(order)
        for name in order:
            pair = [forward, runs[name]]
            shuffle.shuffle(pair)
            taken = {id(each): place.seconds(each, images.clone()) for each in pair}
            found[name].append(taken[id(runs[name])] / taken[id(forward)])
            forwards.append(taken[id(forward)])
    return found, forwards


def peak_in_process(module: str, arguments: Sequence[str]) -> float:
    """Return by how many MB a run grew at most above its loaded model, measured in a process of its own."""
    command = [sys.executable, "-m", module, "--memory", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_peak(place: Place, run: Run, images: Tensor, times: int = 3) -> None:
    """Run a few times and print by how many MB memory grew at most: this process's, or the device's."""
    if place.device != "cpu":
        place.wait()
        torch.cuda.reset_peak_memory_stats()
        loaded = torch.cuda.memory_allocated()
        for _ in range(times):
            run(images.clone())
        place.wait()
        print(json.dumps((torch.cuda.max_memory_allocated() - loaded) / 2**20))
        return
    before = psutil.Process().memory_info().rss
    for _ in range(times):
        run(images.clone())
    # Not getrusage: its peak begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps((peak - before) / 2**20))


def put_into(page: Path, mark: str, made: Sequence[str]) -> None:
    """Replace what stands between two marks ``<!-- mark -->`` of a page."""
    sign = f"<!-- {mark} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(sign)
    after = rest.partition(sign)[2]
    text = "\n".join(made)
    page.write_text(f"{before}{sign}\n{text}\n{sign}{after}", encoding="utf-8")
