"""Several layers by depth: one a resolution, found in what the choice of one layer has traced."""

from dataclasses import dataclass
from math import prod

from whycam.engine.layers import FEWEST_POSITIONS, LEAST_SUPPORT, Candidate, LayerChoice

STAGES = "stages"
"""What a user says for these layers, in the place of a path."""
FEW = 4
"""How many layers are taken where all of them have one resolution."""


@dataclass(frozen=True)
class StageChoice:
    """Layers of rising depth, from shallow to deep, and why these.

    The last one is the layer that is chosen where only one is explained; ``last`` says why.
    """

    paths: tuple[str, ...]
    reason: str
    last: str


def stages_of(choice: LayerChoice) -> StageChoice:
    """Return the deepest fit layer at each resolution, down to the chosen layer.

    Where all fit layers have one resolution, as in a plain transformer, ``FEW`` of them, equally spaced in
    depth. Layers with an objection are passed over, and so are those behind the chosen one; but a layer that
    all evidence passes through may have few positions with gradient, as strided shortcuts leave them in a
    network whose branches are still near zero.
    """
    at = next(place for place, one in enumerate(choice.candidates) if one.path == choice.path)
    chosen, *behind = choice.candidates[at:]
    fit = [chosen, *(one for one in behind if not one.objection or _is_sparse_trunk(one))]
    by_grid: dict[tuple[int, ...], Candidate] = {}
    for one in fit:  # from the deepest on
        by_grid.setdefault(one.grid, one)
    if len(by_grid) > 1:
        taken = list(by_grid.values())[::-1]
        grids = ", ".join(" x ".join(map(str, one.grid)) for one in taken)
        reason = f"the deepest fit layer at each grid: {grids}"
        return StageChoice(tuple(one.path for one in taken), reason, choice.reason)
    count = min(FEW, len(fit))
    spaced = [fit[len(fit) * step // count] for step in range(count)][::-1]
    grid = " x ".join(map(str, chosen.grid))
    reason = f"{count} of {len(fit)} fit layers, equally spaced in depth: all have the grid {grid}"
    return StageChoice(tuple(one.path for one in spaced), reason, choice.reason)


def _is_sparse_trunk(one: Candidate) -> bool:
    """Say whether all that speaks against a layer is how few of its positions have a gradient."""
    return one.trunk and one.support <= LEAST_SUPPORT and prod(one.grid) >= FEWEST_POSITIONS
