"""What a run's methods share: one forward a batch, and the layers that each of them takes."""

from pathlib import Path

import pytest

from whycam.models import LoadedModel
from whycam.runs import RunRequest, run_explain
from whycam.runs.request import Existing, RunSummary
from whycam.store import read_run

from .conftest import Network

GRADIENT_CAMS = (
    "gradcam",
    "gradcam++",
    "xgradcam",
    "hirescam",
    "gradcam-elementwise",
    "layercam",
    "eigengradcam",
    "segeigencam",
    "shapleycam",
    "finercam",
)


@pytest.fixture
def run(model: LoadedModel, pictures: Path, tmp_path: Path):
    def explained(
        name: str, *methods: str, layers: tuple[str, ...] = (), existing: Existing = "refuse"
    ) -> RunSummary:
        request = RunRequest(
            model=model,
            sources=(pictures,),
            folder=tmp_path / name,
            methods=methods,
            layers=layers,
            batch_size=5,
            existing=existing,
        )
        return run_explain(request)

    return explained


def test_all_gradient_cams_of_a_run_share_one_forward_a_batch(run, network: Network) -> None:
    run("first", "gradcam")  # traces the model, which is remembered
    network.batches.clear()
    run("one", "gradcam")
    alone = list(network.batches)
    network.batches.clear()
    run("all", *GRADIENT_CAMS)
    assert network.batches == alone == [1, 5, 5, 2]  # the first image is the proof


def layers_of(run: RunSummary) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in read_run(run.folder).rows():
        found.setdefault(row.method or "", set()).add(row.layer or "")
    return found


def test_a_method_over_stages_takes_them_and_the_others_the_chosen_layer(run) -> None:
    both = run("both", "refinecam", "gradcam", "fullgrad")
    assert both.layer.paths == ("features.1", "features")
    assert both.layer.reason.startswith(
        "the deepest fit layer at each grid: 16 x 16, 8 x 8; gradcam: the last"
    )
    assert layers_of(both) == {
        "refinecam": {"features.1 + features"},
        "gradcam": {"features"},
        "fullgrad": {"input"},
    }
    alone = run("alone", "gradcam")
    assert alone.layer.paths == ("features",)


def test_stages_can_be_asked_for_and_a_resumed_run_keeps_them(run) -> None:
    fused = run("fused", "layercam", layers=("stages",))
    assert fused.layer.paths == ("features.1", "features")
    assert fused.layer.reason == "the deepest fit layer at each grid: 16 x 16, 8 x 8"
    assert layers_of(fused) == {"layercam": {"features.1 + features"}}
    again = run("fused", "layercam", layers=("stages",), existing="resume")
    assert (again.reused, again.layer) == (12, fused.layer)
