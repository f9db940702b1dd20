"""A usable layer on architectures of transformers and open_clip: some here, all by ``make sweep``."""

import re
from pathlib import Path

import pytest
from benchmarks.layer_checks import examine
from benchmarks.library_sweep import ARCHITECTURES, OPEN_CLIP

# Register tokens, windows on an oblong input, two kinds of queries, detection tokens, dense answers, and a
# backbone whose own output its pooling passes by.
HERE = (
    "dinov2, registers, oblong",
    "swin, oblong",
    "beit",
    "clip",
    "detr",
    "mask2former",
    "perceiver",
    "segformer",
    "yolos",
)
# The masked autoencoder shuffles its patches; every position of LeViT has seen all the others.
NOT_USABLE = {"vit_mae", "levit"}
TABLE = Path(__file__).parents[1] / "docs" / "library-layers.md"


@pytest.mark.parametrize("name", HERE)
@pytest.mark.filterwarnings("ignore")
def test_layer_exists_fits_and_keeps_its_positions_in_order(name: str) -> None:
    model, size = ARCHITECTURES[name].build()
    assert examine(name, ARCHITECTURES[name].model, model, size).trouble == ""


def test_the_committed_table_leaves_no_architecture_out_and_names_what_is_not_usable() -> None:
    lines = re.findall(r"^\| (.+) \|$", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    rows = [line.split(" | ") for line in lines if not line.startswith(("family", "---"))]
    named = [(name, architecture.model) for name, architecture in ARCHITECTURES.items()]
    assert [(row[0], row[1]) for row in rows] == named + [("open_clip", name) for name in OPEN_CLIP]
    assert {row[0] for row in rows if row[-1] != "yes"} == NOT_USABLE


def test_at_least_thirty_architectures_of_one_library_and_six_of_the_other_are_tried() -> None:
    assert len({architecture.model for architecture in ARCHITECTURES.values()}) >= 30
    assert len(OPEN_CLIP) >= 6
