"""A method's cost in forwards, read from the registry's text: it orders methods, and times none."""

import math
import re

from whycam.errors import MethodError
from whycam.methods.registry import Method

FORWARD, BACKWARD = 1.0, 2.0
TAIL = 0.05
"""What follows the layer, there or back, beside a whole forward: what Grad-CAM may cost more at the layer
that is chosen by tracing. At a shallower layer it is more."""
FEW = 10.0
"""The most forwards that a cheap method costs."""

_TERM = re.compile(r"(?:(\d+) ?)?(?:([CZ]) )?(F|B|\(F \+ B\)|s|s-backward|a tail a block)")


def forwards_of(method: Method, *, channels: float = math.inf, positions: float = math.inf) -> float:
    """Return how many forwards a method's cost, such as ``F + C s``, comes to; infinite where not known.

    A backward counts as two forwards, and what follows the layer as ``TAIL`` of one; as a whole backward for
    methods of several layers at once, the first of which is near the image. ``channels`` stands for C, the
    layer's channels, and ``positions`` for Z, its cells. Raises MethodError for a text that is no such sum;
    ``unknown`` is infinite.
    """
    if method.cost == "unknown":
        return math.inf
    tail = BACKWARD if method.takes_all_layers_at_once else TAIL
    each = {
        "F": FORWARD,
        "B": BACKWARD,
        "(F + B)": FORWARD + BACKWARD,
        "s": tail,
        "s-backward": tail,
        "a tail a block": BACKWARD,  # no more than a backward through all blocks
    }
    times = {"C": channels, "Z": positions, None: 1.0}
    # a plus between brackets joins no terms
    terms = [_TERM.fullmatch(term) for term in re.split(r" \+ (?![^(]*\))", method.cost)]
    if not all(terms):
        raise MethodError(
            f"the cost {method.cost!r} of {method.name!r} can't be read; write a sum such as "
            "'F + s-backward', '2 F + B' or 'F + C s', or 'unknown'"
        )
    return math.fsum(int(term[1] or 1) * times[term[2]] * each[term[3]] for term in terms if term)
