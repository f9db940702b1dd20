"""What `make verify` claims, on the same networks: the known right answers and the known weaknesses."""

import pytest
from benchmarks.known_answers import (
    CASES,
    CHECKS,
    CLAIMS,
    Check,
    Claim,
    Figure,
    mosaics,
    path_gap,
    whole_forwards,
)
from benchmarks.verify import lines

from whycam.methods import METHODS

MEASURE = {case.name: case.measure for case in CASES}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.case}-{claim.method}")
def test_a_claim_of_the_verification_page_holds(claim: Claim) -> None:
    figure = MEASURE[claim.case](claim.method)
    assert claim.holds(figure), figure


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.title)
def test_a_check_of_the_verification_page_holds(check: Check) -> None:
    value = check.measure()
    assert check.holds(value), value


def test_integrated_gradients_come_closer_as_steps_grow() -> None:
    assert path_gap(300) < path_gap(50) < path_gap(10)


def test_the_mosaics_show_four_classes_each() -> None:
    chosen = mosaics()
    assert chosen.images.shape == (40, 3, 192, 192)
    assert all(len(set(classes.tolist())) == 4 for classes in chosen.classes)


def test_the_table_has_every_method_and_says_what_did_not_hold() -> None:
    found = {(case.name, method): Figure(9.0) for case in CASES for method in METHODS}
    text = "\n".join(lines(found))
    assert all(f"| `{method}` |" in text for method in METHODS)
    assert text.count("**no**") == len(CLAIMS)


def test_a_cost_in_words_tells_how_many_forwards() -> None:
    assert whole_forwards("gradcam") == 1
    assert whole_forwards("smoothgradcam++") == 17
