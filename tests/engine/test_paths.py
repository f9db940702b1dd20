"""Paths through small graphs whose number is known by hand."""

import torch
from torch.autograd.graph import get_gradient_edge

from whycam.engine.paths import earliest_uses, paths_between


def test_paths_through_two_branches_are_all_paths_only_before_and_after_them() -> None:
    pixels = torch.ones(4, requires_grad=True)
    stem = pixels * 2
    left, right = stem.exp(), stem.sin()
    joined = left + right
    paths = paths_between(joined.sum(), pixels)
    assert paths.total == 2
    assert [paths.all_pass(get_gradient_edge(t).node) for t in (stem, left, right, joined)] == [
        *[True, False, False, True]
    ]


def test_stacked_residual_blocks_multiply_their_paths_and_are_counted_without_walking_each() -> None:
    pixels = torch.ones(1, requires_grad=True)
    value = pixels
    for _ in range(2000):
        value = value + value.relu()
    assert paths_between(value.sum(), pixels).total == 2**2000


def test_a_node_that_the_score_does_not_need_and_an_image_out_of_reach_are_on_no_path() -> None:
    pixels, other = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    used, unused = pixels * 2, pixels * 3
    paths = paths_between(used.sum(), pixels)
    assert not paths.all_pass(get_gradient_edge(unused).node)
    assert not paths_between(used.sum(), other).all_pass(get_gradient_edge(used).node)


def test_the_earliest_use_is_the_first_operation_that_took_the_value() -> None:
    pixels = torch.ones(4, requires_grad=True)
    value = pixels * 2
    first = value.exp()
    second = value.sin()
    edge = get_gradient_edge(value)
    earliest = earliest_uses(paths_between((second + first).sum(), pixels))
    assert earliest[edge.node, edge.output_nr] == get_gradient_edge(first).node._sequence_nr()
