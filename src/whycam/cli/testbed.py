"""``whycam testbed``: models and pictures on which the right explanation is known."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whycam.cli.answer import DONE, SOME_FAILED, Answer, table
from whycam.cli.console import progress_bar, tell
from whycam.cli.options import DeviceOption, JsonOption, usable_device
from whycam.cli.running import StoppedError
from whycam.errors import UsageError

if TYPE_CHECKING:
    from whycam.testbeds import Made


def make_testbed(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which one; --list has them.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The folder to make; new or empty.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed, another bed.")] = 0,
    device: DeviceOption = "cpu",
    listing: Annotated[bool, typer.Option("--list", help="List the test beds.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Make a test bed: pictures, true masks, models.

    Offline, in up to three minutes, from handwritten digits and photographs that scikit-learn and
    scikit-image bundle. Exits with 1 where the bed fails its own checks, for then nothing that is measured
    on it would mean anything.
    """
    if listing or name is None:
        return _listed()
    if out is None:
        raise UsageError(f"--out is missing; say where to make the test bed: whycam testbed {name} --out DIR")
    import torch

    from whycam.testbeds import make_bed

    # so small a network is not made faster by more threads, and on a busy machine much slower
    torch.set_num_threads(min(2, torch.get_num_threads()))
    try:
        with progress_bar("training", quiet=json) as progress:
            made = make_bed(name, out, seed=seed, device=usable_device(device), progress=progress)
    except KeyboardInterrupt:
        raise StoppedError("interrupted before anything was written") from None
    if not made.valid:
        tell(
            "invalid",
            f"{made.name} with seed {seed} fails its checks; measure nothing on it, try another --seed",
        )
    return Answer(_lines(made), _data(made, seed), DONE if made.valid else SOME_FAILED)


def _listed() -> Answer:
    from whycam.testbeds import TESTBEDS

    beds = [(bed.name, bed.summary) for bed in TESTBEDS.values()]
    return Answer(
        table(("test bed", "what it holds"), beds),
        {"testbeds": [dict(zip(("name", "summary"), bed, strict=True)) for bed in beds]},
    )


def _lines(made: "Made") -> list[str]:
    rows = [
        (check.what, f"{check.value:.4g}", check.bounds, "holds" if check.holds else "FAILS")
        for check in made.checks
    ]
    return [
        made.what,
        "",
        *table(("check", "value", "expected", ""), rows),
        "",
        f"  {'valid' if made.valid else 'INVALID'}; made in {made.seconds:.0f} s of processor time",
        f"  folder    {made.folder}",
    ]


def _data(made: "Made", seed: int) -> dict[str, object]:
    return {
        "testbed": made.name,
        "folder": str(made.folder),
        "seed": seed,
        "what": made.what,
        "valid": made.valid,
        "checks": [check.to_dict() for check in made.checks],
        "processor_seconds": made.seconds,
    }
