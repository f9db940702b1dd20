from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whycam.render.heatmaps import resize
from whycam.render.sampling import Span, area_taps, coverage, linear_taps, resample_rows

SPANS = st.builds(
    lambda start, length, cells: Span(start, start + length, cells),
    st.floats(-20, 20),
    st.floats(0.5, 60),
    st.integers(1, 40),
)


@settings(max_examples=100, deadline=None)
@given(span=SPANS, pixels=st.integers(1, 50))
def test_linear_taps_are_an_average_of_existing_cells(span, pixels):
    taps = linear_taps(span, range(pixels))
    np.testing.assert_allclose(taps.weights.sum(1), 1, atol=1e-5)
    assert (taps.weights >= 0).all()
    assert taps.cells.min() >= 0
    assert taps.cells.max() < span.cells


@settings(max_examples=50, deadline=None)
@given(cells=st.integers(1, 12), factor=st.floats(1, 9), seed=st.integers(0, 99))
def test_linear_taps_enlarge_exactly_as_resize_does(cells, factor, seed):
    pixels = round(cells * factor)
    values = torch.rand(1, cells, generator=torch.Generator().manual_seed(seed))
    result = resample_rows(values.T.numpy(), linear_taps(Span(0.0, float(pixels), cells), range(pixels)))
    np.testing.assert_allclose(result[:, 0], resize(values, (pixels,))[0].numpy(), atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(pixels=st.integers(1, 12), factor=st.integers(2, 15), where=st.integers(0, 200))
def test_shrinking_loses_no_cell(pixels, factor, where):
    cells = pixels * factor
    values = np.zeros((cells, 1), np.float32)
    values[where % cells] = 1
    assert resample_rows(values, linear_taps(Span(0.0, float(pixels), cells), range(pixels))).sum() > 0


@settings(max_examples=100, deadline=None)
@given(span=SPANS, pixels=st.integers(1, 50))
def test_area_taps_weigh_cells_by_their_share_of_the_pixel(span, pixels):
    taps = area_taps(span, range(pixels))
    pitch = (span.stop - span.start) / span.cells
    for pixel in range(pixels):
        edges = [span.start + pitch * cell for cell in range(span.cells + 1)]
        shares = np.array([max(0.0, min(pixel + 1, high) - max(pixel, low)) for low, high in pairwise(edges)])
        if shares.sum() < 1e-3:  # outside, or a sliver: what is asked of it is only that nothing breaks
            continue
        found = np.zeros(span.cells)
        np.add.at(found, taps.cells[pixel], taps.weights[pixel])
        np.testing.assert_allclose(found, shares / shares.sum(), atol=1e-3)


@given(start=st.floats(-5, 15), length=st.floats(0, 20))
def test_coverage_adds_up_to_the_part_inside(start, length):
    stop = start + length
    inside = max(0.0, min(stop, 10.0) - max(start, 0.0))
    np.testing.assert_allclose(coverage(start, stop, range(10)).sum(), inside, atol=1e-4)
