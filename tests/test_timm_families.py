"""A usable layer on timm's families: some here, all of them by ``make sweep``."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
from benchmarks.layer_checks import examine
from benchmarks.timm_sweep import build, families

# Small and unlike one another: a plain CNN, channels last, class tokens, two streams, class attention after
# the patches, token mixing, a mixture of both, several branches, dense connections, and wide kernels. Slow
# ones have fewer blocks or pixels here; in their own size they are in the sweep.
HERE: dict[str, dict[str, Any]] = {
    "mobilenetv3": {},
    "swin_transformer": {"depths": (1, 1, 2, 1)},
    "deit": {"depth": 4},
    "crossvit": {"depth": ((1, 1, 0), (1, 1, 0), (1, 1, 0))},
    "cait": {"depth": 3},
    "mlp_mixer": {},
    "maxxvit": {"side": 128},
    "hrnet": {},
    "densenet": {},
    "convnext": {},
    "pit": {},
    "volo": {},
}
# At random weights the 16 positions of LeViT's last stage are alike to a millionth.
NOT_USABLE = {"levit": "eigencam: constant"}
TABLE = Path(__file__).parents[1] / "docs" / "timm-layers.md"


@pytest.mark.parametrize("family", HERE)
@pytest.mark.filterwarnings("ignore")
def test_layer_exists_fits_and_keeps_its_positions_in_order(family: str) -> None:
    name = dict(families())[family]
    found = examine(family, name, *build(name, **HERE[family]))
    assert found.trouble == ""


def test_the_list_names_every_family_that_timm_has() -> None:
    assert {family for family, _ in families()} == set(timm.list_modules())


def test_the_committed_table_leaves_no_family_out_and_names_what_is_not_usable() -> None:
    lines = re.findall(r"^\| (.+) \|$", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    rows = [line.split(" | ") for line in lines if not line.startswith(("family", "---"))]
    assert [(row[0], row[1]) for row in rows] == list(families())
    assert {row[0]: row[-1] for row in rows if row[-1] != "yes"} == NOT_USABLE
