"""``whycam demo``: all of it on a small model and images inside the package, offline."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whycam.cli.answer import DONE, SOME_FAILED, Answer, table
from whycam.cli.options import JsonOption
from whycam.cli.running import places, plural, run_data, run_with_bar

if TYPE_CHECKING:
    from torch import Tensor

    from whycam.runs import RunSummary
    from whycam.store import Manifest, Row

SHOWN = ("gradcam", "layercam", "hirescam", "eigencam")
CONTROLS = ("random", "centre", "edges")
_BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Share:
    """How much of a method's positive mass falls on the object: mean over n images, 95 % interval."""

    method: str
    mean: float
    low: float
    high: float
    n: int


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The run folder to write.")] = Path(
        "whycam-demo"
    ),
    json: JsonOption = False,
) -> Answer:
    """Try all of it on a small model and its images.

    The images hold digits, whose true places are known, so the methods can be held against controls
    that know nothing of the model. A second call goes on with the run in --out, or reads it where it is
    finished.
    """
    import torch

    from whycam.demo import demo_images
    from whycam.models import load
    from whycam.runs import RunRequest
    from whycam.store import read_run

    # so small a network is not made faster by more threads, and on a busy machine much slower
    torch.set_num_threads(min(2, torch.get_num_threads()))
    request = RunRequest(
        model=load("demo"),
        sources=(demo_images()[0].parent.parent / "labels.csv",),
        folder=out,
        methods=(*SHOWN, *CONTROLS),
        command=("whycam", *sys.argv[1:]),
        existing="resume",
    )
    summary = run_with_bar(request, quiet=json)
    finished = read_run(out)
    rows = list(finished.rows())
    answers = {row.id: row.prediction_name == row.label for row in rows}
    shares = _shares(rows)
    lines = [
        *_origin(summary, finished.manifest),
        f"the demo network is right on {sum(answers.values())} of {plural(len(answers), 'image')}",
        "share of each map's positive mass that falls on the digit:",
        "",
        *_table(shares),
        "",
        *places(out, summary.sheet),
    ]
    data = {
        **run_data(summary, request),
        "created": finished.manifest.created,
        "accuracy": sum(answers.values()) / len(answers),
        "mass_on_the_digit": [asdict(share) for share in shares],
    }
    return Answer(lines, data, SOME_FAILED if summary.failed else DONE)


def _origin(summary: "RunSummary", manifest: "Manifest") -> list[str]:
    """Say that the numbers are an earlier call's, and which versions made them where these are others."""
    if not summary.reused:
        return []
    now = manifest.resumed[-1].versions
    calls = [manifest.versions, *(call.versions for call in manifest.resumed[:-1])]
    others = {
        f"{name} {call.get(name)} (now {now[name]})"
        for call in calls
        for name in now
        if call.get(name) != now[name]
    }
    what = "all" if summary.reused == summary.images else f"{summary.reused} of {summary.images} images"
    mend = "another --out makes them anew"
    lines = [f"{what} read from {str(summary.folder)!r}, made earlier ({manifest.created}); {mend}"]
    return [*lines, *([f"made with {', '.join(sorted(others))}"] if others else []), ""]


def _shares(rows: Sequence["Row"]) -> list[Share]:
    """Return each method's share, in the order of the table; last what a uniform map would get."""
    import torch

    from whycam.demo import demo_images, demo_masks
    from whycam.evaluation.localisation import energy

    places = zip(demo_images(), demo_masks(), strict=True)
    mask_of = {str(image): _mask(mask) for image, mask in places}
    by_method: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.map is not None:
            by_method[row.method or ""].append(row)
    shares = []
    for method in (*SHOWN, *CONTROLS):
        of_method = by_method[method]
        maps = torch.stack([torch.from_numpy(row.map) for row in of_method])
        shares.append(_share(method, energy(maps, torch.stack([mask_of[r.path] for r in of_method]))))
    uniform = torch.stack(list(mask_of.values())).float().mean((1, 2))
    return [*shares, _share("uniform", uniform)]


def _mask(path: Path) -> "Tensor":
    import numpy as np
    import torch
    from PIL import Image

    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("1")))


def _share(method: str, values: "Tensor") -> Share:
    """Return the mean with the interval of its bootstrap distribution, from a fixed seed."""
    import torch

    n = len(values)
    drawn = torch.randint(n, (_BOOTSTRAPS, n), generator=torch.Generator().manual_seed(0))
    low, high = values[drawn].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return Share(method, values.mean().item(), low, high, n)


def _table(shares: Sequence[Share]) -> list[str]:
    kinds = {**dict.fromkeys(CONTROLS, "control"), "uniform": "control: the digit's share of the area"}
    rows = [
        (s.method, f"{s.mean:.2f}", f"{s.low:.2f} to {s.high:.2f}", str(s.n), kinds.get(s.method, "method"))
        for s in shares
    ]
    return table(("method", "mean", "95 % interval", "n", ""), rows)
