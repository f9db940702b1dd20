"""Layouts: there and back without loss, and read from a shape as a reader of the shape would."""

from itertools import product
from math import prod

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from whycam import LayerError
from whycam.engine.grid import Layout, fits, misfit, read_layout, require_layout

ORDERS = ("channels-first", "channels-last", "tokens", "tokens-last")


def layout(order, grid, channels, prefix):
    return Layout(order, tuple(grid), channels, prefix if order.startswith("tokens") else 0)


# Built from its parts in each test: the checks on Layout draw random numbers, which strategies must not.
any_layout = given(
    st.sampled_from(ORDERS),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(1, 6),
    st.integers(0, 5),
)


def values_of(layout, batch=2):
    """Return distinct numbers in the layout, and the same on the grid by explicit indexing."""
    tokens = layout.prefix + prod(layout.grid)
    shape = {
        "channels-first": (layout.channels, *layout.grid),
        "channels-last": (*layout.grid, layout.channels),
        "tokens": (tokens, layout.channels),
        "tokens-last": (layout.channels, tokens),
    }[layout.order]
    values = torch.arange(batch * prod(shape), dtype=torch.float64).reshape(batch, *shape)
    on_grid = torch.zeros(batch, layout.channels, *layout.grid, dtype=torch.float64)
    for channel in range(layout.channels):
        for number, cell in enumerate(product(*map(range, layout.grid))):
            source = {
                "channels-first": (channel, *cell),
                "channels-last": (*cell, channel),
                "tokens": (layout.prefix + number, channel),
                "tokens-last": (channel, layout.prefix + number),
            }[layout.order]
            on_grid[(slice(None), channel, *cell)] = values[(slice(None), *source)]
    return values, on_grid


@any_layout
def test_to_grid_puts_every_value_in_its_cell_row_by_row(order, grid, channels, prefix):
    one = layout(order, grid, channels, prefix)
    values, on_grid = values_of(one)
    assert torch.equal(one.to_grid(values), on_grid)


@any_layout
def test_there_and_back_is_the_identity_and_prefix_tokens_stay(order, grid, channels, prefix):
    one = layout(order, grid, channels, prefix)
    values, _ = values_of(one)
    before = values.clone()
    assert torch.equal(one.from_grid(one.to_grid(values), like=values), values)
    assert torch.equal(values, before)


@any_layout
def test_back_and_there_is_the_identity(order, grid, channels, prefix):
    one = layout(order, grid, channels, prefix)
    values, on_grid = values_of(one)
    changed = -on_grid - 1
    back = one.from_grid(changed, like=values)
    assert back.shape == values.shape
    assert torch.equal(one.to_grid(back), changed)
    if one.prefix and one.order == "tokens":
        assert torch.equal(back[:, : one.prefix], values[:, : one.prefix])
    if one.prefix and one.order == "tokens-last":
        assert torch.equal(back[..., : one.prefix], values[..., : one.prefix])


def test_gradients_flow_back_through_both_ways():
    one = Layout("tokens", (2, 3), 4, 1)
    tokens = torch.randn(2, 7, 4, requires_grad=True)
    one.from_grid(one.to_grid(tokens) * 2, like=tokens).sum().backward()
    assert torch.equal(tokens.grad, torch.tensor([1.0] + 6 * [2.0]).view(1, 7, 1).expand(2, 7, 4))


sides = st.integers(2, 9)
strides = st.sampled_from([1, 2, 4, 7, 8, 16])


@given(st.lists(sides, min_size=1, max_size=3), strides, st.integers(8, 64), st.sampled_from(ORDERS[:2]))
def test_a_map_with_channels_is_read_when_the_channels_are_known(grid, stride, channels, order):
    size = [cells * stride for cells in grid]
    shape = (channels, *grid) if order == "channels-first" else (*grid, channels)
    assume(len(set(shape)) > 1)  # where all axes are alike, nothing tells them apart
    found = read_layout((1, *shape), size, channels=channels)
    both = len({*grid, channels}) == len(grid) + 1
    assert found is not None
    assert found.channels == channels
    if both:
        assert found == Layout(order, tuple(grid), channels)


@given(st.tuples(sides, sides), strides, st.integers(0, 8), st.integers(8, 48), st.booleans())
def test_tokens_are_read_with_what_the_model_says(grid, stride, prefix, channels, last):
    size = [cells * stride for cells in grid]
    tokens = prod(grid) + prefix
    assume(tokens != channels)
    shape = (1, channels, tokens) if last else (1, tokens, channels)
    found = read_layout(shape, size, prefix=prefix, grid=grid, channels=channels)
    assert found == Layout("tokens-last" if last else "tokens", grid, channels, prefix)


@given(st.tuples(sides, sides), strides, st.sampled_from([0, 1, 2, 5]), st.integers(100, 400))
@example((14, 14), 16, 1, 192)
@example((14, 14), 16, 5, 384)
@example((4, 6), 8, 2, 100)
def test_a_known_number_of_prefix_tokens_settles_the_grid(grid, stride, prefix, channels):
    size = [cells * stride for cells in grid]
    found = read_layout((1, prod(grid) + prefix, channels), size, prefix=prefix, channels=channels)
    assert found == Layout("tokens", grid, channels, prefix)


@pytest.mark.parametrize(
    ("shape", "size", "grid", "prefix"),
    [
        ((1, 197, 192), (224, 224), (14, 14), 1),
        ((1, 198, 192), (224, 224), (14, 14), 2),
        ((1, 201, 384), (224, 224), (14, 14), 5),
        ((1, 196, 192), (224, 224), (14, 14), 0),
        ((1, 49, 768), (224, 224), (7, 7), 0),
        ((1, 1 + 12 * 20, 96), (192, 320), (12, 20), 1),
        ((1, 5 + 20 * 12, 96), (320, 192), (20, 12), 5),
        ((1, 1568, 384), (16, 224, 224), (8, 14, 14), 0),  # video: 8 tubes of 2 frames
    ],
)
def test_prefix_tokens_are_solved_where_the_model_says_nothing(shape, size, grid, prefix):
    assert read_layout(shape, size) == Layout("tokens", grid, shape[2], prefix)


def test_a_width_that_is_a_square_needs_the_number_of_channels():
    """1,024 channels could be a grid of 32 x 32: the part's own width tells."""
    assert read_layout((1, 257, 1024), (224, 224), channels=1024) == Layout("tokens", (16, 16), 1024, 1)
    assert read_layout((1, 50, 24), (400,), channels=24) == Layout("channels-last", (50,), 24)
    assert read_layout((1, 24, 50), (400,), channels=24) == Layout("channels-first", (50,), 24)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((1, 512, 7, 7), (224, 224), Layout("channels-first", (7, 7), 512)),
        ((1, 7, 7, 768), (224, 224), Layout("channels-last", (7, 7), 768)),
        ((1, 64, 13, 20), (400, 640), Layout("channels-first", (13, 20), 64)),
        ((1, 13, 20, 64), (400, 640), Layout("channels-last", (13, 20), 64)),
        ((1, 32, 4, 7, 7), (16, 112, 112), Layout("channels-first", (4, 7, 7), 32)),
        ((1, 4, 7, 7, 320), (16, 112, 112), Layout("channels-last", (4, 7, 7), 320)),
        ((1, 64, 250), (1000,), Layout("channels-first", (250,), 64)),
    ],
)
def test_usual_shapes_are_read(shape, size, expected):
    assert read_layout(shape, size, channels=expected.channels) == expected
    if len(size) > 1:
        assert read_layout(shape, size) == expected


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 1000), (224, 224)),  # class scores
        ((1, 3, 196, 196), (224, 448)),  # attention weights: square, where the input is not
        ((1, 64, 224, 7), (224, 224)),  # one axis pooled
        ((1, 64, 448, 448), (224, 224)),  # larger than the input
        ((1, 2, 3, 4, 5, 6), (224, 224)),
        ((1,), (224, 224)),
        ((1, 100, 5), (3, 5)),
    ],
)
def test_what_has_no_grid_is_not_read(shape, size):
    assert read_layout(shape, size) is None


extents = st.tuples(st.integers(7, 1300), st.integers(7, 1300))


@given(extents, st.sampled_from([2, 4, 8, 16, 32]))
@example((370, 1226), 16)  # a street scene
@example((65, 1000), 32)  # a line of text
def test_what_strided_convolutions_give_fits_at_any_aspect(size, stride):
    assume(min(size) >= stride)
    for rounded in (lambda extent: -(-extent // stride), lambda extent: extent // stride):
        grid = tuple(rounded(extent) for extent in size)
        assert fits(grid, size)
        assert read_layout((1, 2000, *grid), size) == Layout("channels-first", grid, 2000)


@given(st.integers(8, 60), st.integers(1, 6), st.sampled_from([4, 8, 16]), st.booleans())
def test_a_grid_of_another_aspect_does_not_fit(cells, extra, stride, turned):
    size = (cells * stride, cells * stride)
    grid = (cells, cells + 2 + extra)
    assert not fits(grid[::-1] if turned else grid, size)
    assert fits((cells, cells + 1), size)  # a cell of padding


@given(st.tuples(sides, sides), strides)
def test_an_exact_stride_is_no_misfit(grid, stride):
    assert misfit(grid, [cells * stride for cells in grid]) == 0
    assert misfit((grid[0] + 1, grid[1]), [cells * stride for cells in grid]) > 0


def test_a_grid_larger_than_the_input_does_not_fit():
    assert not fits((8, 8), (4, 4))
    assert not fits((5,), (4,))
    assert fits((4,), (4,))


@any_layout
def test_a_name_is_the_usual_one(order, grid, channels, prefix):
    one = layout(order, grid, channels, prefix)
    expected = {
        ("channels-first", 1): "NCL",
        ("channels-first", 2): "NCHW",
        ("channels-first", 3): "NCDHW",
        ("channels-last", 1): "NLC",
        ("channels-last", 2): "NHWC",
        ("channels-last", 3): "NDHWC",
    }
    name = expected.get((one.order, len(one.grid)), "NLC" if one.order == "tokens" else "NCL")
    assert one.name == name


def test_no_layout_is_an_error_of_one_line_with_the_mend():
    with pytest.raises(LayerError, match=r"'fc' gave \[2, 1000\].*\[224, 224\].*before pooling") as caught:
        require_layout(None, "fc", [2, 1000], [224, 224])
    assert "\n" not in str(caught.value)


def test_tokens_whose_time_changes_fastest_are_brought_to_time_rows_columns_and_back() -> None:
    values = torch.rand(2, 3, 2, 4, 5)  # [B, C, T, H, W]
    cells = values.permute(0, 3, 4, 2, 1).reshape(2, 40, 3)
    tokens = torch.cat([torch.rand(2, 1, 3), cells], 1)
    layout = read_layout(tokens.shape, (4, 32, 40), prefix=1, time_last=True)
    assert layout is not None
    assert layout.grid == (2, 4, 5)
    assert torch.equal(layout.to_grid(tokens), values)
    assert torch.equal(layout.from_grid(layout.to_grid(tokens), tokens), tokens)
    # a layer that keeps its axes apart says itself which is which
    apart = read_layout((2, 3, 2, 4, 5), (4, 32, 40), time_last=True)
    assert apart is not None
    assert not apart.time_last
