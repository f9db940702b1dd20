"""Test beds with known truth: models and pictures on which it is known where an explanation must point.

Made offline in minutes from a seed: real handwritten digits on crops of real photographs, which scikit-learn
and scikit-image bundle. A bed says by an intervention on its model whether it is valid before anything is
measured on it.
"""

from whycam.testbeds.making import Made, make_bed
from whycam.testbeds.reading import WrittenBed, WrittenSet, read_bed
from whycam.testbeds.registry import TESTBEDS, BedRecipe, find_testbed

__all__ = [
    "TESTBEDS",
    "BedRecipe",
    "Made",
    "WrittenBed",
    "WrittenSet",
    "find_testbed",
    "make_bed",
    "read_bed",
]
