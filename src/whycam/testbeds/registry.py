"""The test beds by name; `TESTBEDS` is the one registry."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from whycam.errors import UsageError
from whycam.testbeds.bam import bam
from whycam.testbeds.bed import Bed
from whycam.testbeds.classifier import classifier
from whycam.testbeds.colours import colours
from whycam.testbeds.mosaics import difull, gridpg
from whycam.testbeds.parts import parts
from whycam.testbeds.watermark import partial, watermark
from whycam.testbeds.workshop import Workshop


@dataclass(frozen=True)
class BedRecipe:
    """A test bed's name, what it holds and how it is made."""

    name: str
    summary: str
    make: Callable[[Workshop], Bed]


TESTBEDS: dict[str, BedRecipe] = {
    bed.name: bed
    for bed in (
        BedRecipe("classifier", "digits on photographs; the truth is where the digit lies", classifier),
        BedRecipe("watermark", "a model that needs a plate in a corner, and one that does not", watermark),
        BedRecipe(
            "partial", "a model that follows the plate on some images only, and one that never does", partial
        ),
        BedRecipe("gridpg", "mosaics of four classes, seen as a whole", gridpg),
        BedRecipe("difull", "mosaics of four classes whose cells the network can't mix", difull),
        BedRecipe("bam", "the same pixels under two labels: the digit, or the photograph behind it", bam),
        BedRecipe("parts", "a digit's quarters, cut out in turn", parts),
        BedRecipe("colours", "a data set in folders to train on; digits whose colour is the class", colours),
    )
}


def find_testbed(name: str) -> BedRecipe:
    """Return the test bed of that name. Raises UsageError that names the others."""
    if name not in TESTBEDS:
        close = get_close_matches(name, TESTBEDS, n=1)
        meant = f"; did you mean '{close[0]}'?" if close else ""
        raise UsageError(f"there is no test bed {name!r}{meant}; expected one of {', '.join(TESTBEDS)}")
    return TESTBEDS[name]
