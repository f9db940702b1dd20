"""Make a test bed by name, and write it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from whycam.errors import UsageError
from whycam.models.references import usable_device
from whycam.testbeds.bed import Check
from whycam.testbeds.registry import find_testbed
from whycam.testbeds.workshop import FULL, Effort, Progress, Workshop
from whycam.testbeds.writing import refuse_filled, write_bed

MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Made:
    """What was made: the folder, what it is for, its checks, and the processor's seconds it took."""

    name: str
    folder: Path
    what: str
    checks: Sequence[Check]
    valid: bool
    seconds: float


def make_bed(
    name: str,
    folder: str | Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    effort: Effort = FULL,
    progress: Progress = lambda finished, planned: None,
) -> Made:
    """Make the test bed of that name in a new or empty folder; the same again from its seed.

    The same to the bit on one machine with one number of threads. The folder appears when all of it is
    there. A bed that is not valid is written too, and says so: `read_bed` refuses it. Raises UsageError for
    an unknown name, a seed out of range, a device that is not there, a folder with something in it or that
    cannot be written, and MissingExtraError where the digits and photographs are not installed.
    """
    recipe, place = find_testbed(name), Path(folder)
    if not 0 <= seed <= MOST_SEED:
        raise UsageError(f"the seed is {seed}; expected a whole number from 0 to {MOST_SEED}")
    checked = usable_device(device)
    refuse_filled(place)
    began = time.process_time()
    bed = recipe.make(Workshop.open(seed, checked, effort, progress))
    seconds = time.process_time() - began
    facts = {
        "testbed": name,
        "seed": seed,
        "device": str(checked),
        "threads": torch.get_num_threads(),
    }
    write_bed(bed, place, facts=facts)
    return Made(name, place, bed.what, bed.checks, bed.valid, seconds)
