"""The registered methods with few steps or copies, for tests that ask the same of every method."""

from dataclasses import replace
from functools import partial

from whycam.methods import METHODS, Method

FEW = {
    "smoothgradcam++": {"samples": 3},
    "smoothgrad": {"samples": 3},
    "vargrad": {"samples": 3},
    "expected": {"samples": 3},
    "integrated": {"steps": 3},
    "blurig": {"steps": 3},
    "guidedig": {"steps": 3},
    "sscam": {"samples": 2},
    "iscam": {"steps": 2},
    "opticam": {"steps": 3},
    "occlusion": {"patch": 4, "stride": 3},
    "rise": {"masks": 20, "cells": 3},
    "sobol": {"cells": 2, "designs": 4},
    "extremal": {"steps": 4, "cells": 4},
}


def brief(name: str) -> Method:
    """Return the method of that name, with few steps where it has many."""
    method = METHODS[name]
    return replace(method, function=partial(method.function, **FEW[name])) if name in FEW else method
