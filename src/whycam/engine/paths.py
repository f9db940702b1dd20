"""How many paths lead through autograd's graph, from a score back to the image."""

from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge


@dataclass(frozen=True)
class Paths:
    """How many paths lead from the score to each node, and from there on to the image."""

    from_score: dict[Node, int]
    to_image: dict[Node, int]
    total: int

    def all_pass(self, node: Node) -> bool:
        """Say whether every path leads through the node; False where no path leads to the image at all."""
        return self.total > 0 and self.from_score.get(node, 0) * self.to_image.get(node, 0) == self.total


def paths_between(score: Tensor, pixels: Tensor) -> Paths:
    """Count the paths from a score to the image's leaf, each node once: time grows with the graph's edges."""
    start = get_gradient_edge(score).node
    end = get_gradient_edge(pixels).node
    order = _topological(start)
    to_image: dict[Node, int] = {}
    for node in reversed(order):
        to_image[node] = 1 if node is end else sum(to_image[after] for after in _following(node))
    from_score = dict.fromkeys(order, 0)
    from_score[start] = 1
    for node in order:
        for after in _following(node):
            from_score[after] += from_score[node]
    return Paths(from_score, to_image, to_image[start])


def earliest_uses(paths: Paths) -> dict[tuple[Node, int], int]:
    """Return when the output of each operation was used for the first time, among those the score needs."""
    earliest: dict[tuple[Node, int], int] = {}
    for node in paths.from_score:
        number = node._sequence_nr()
        for used in node.next_functions:
            if used[0] is not None:
                key = (used[0], used[1])
                earliest[key] = min(number, earliest.get(key, number))
    return earliest


def _following(node: Node) -> list[Node]:
    return [after for after, _ in node.next_functions if after is not None]


def _topological(start: Node) -> list[Node]:
    """Return the graph's nodes so that each comes before those that follow it; no recursion."""
    finished: list[Node] = []
    seen = {start}
    stack = [(start, iter(_following(start)))]
    while stack:
        node, rest = stack[-1]
        for after in rest:
            if after not in seen:
                seen.add(after)
                stack.append((after, iter(_following(after))))
                break
        else:
            finished.append(node)
            stack.pop()
    return finished[::-1]
