"""What `make verify` claims, on the same networks: the known right answers and the known weaknesses."""

import pytest
from benchmarks.known_answers import CASES, CLAIMS, Claim, Figure, mosaics, whole_forwards
from benchmarks.verify import lines

from whycam.methods import METHODS

MEASURE = {case.name: case.measure for case in CASES}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.case}-{claim.method}")
def test_a_claim_of_the_verification_page_holds(claim: Claim) -> None:
    figure = MEASURE[claim.case](claim.method)
    assert claim.holds(figure), figure


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
