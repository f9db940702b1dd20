import numpy as np
import pytest
import torch
from matplotlib import colormaps

from whycam.errors import UsageError
from whycam.render import COLORMAPS, DEFAULT_COLORMAP, colorise


@pytest.mark.parametrize("name", [*COLORMAPS, "hot", "tab10"])
def test_colours_are_matplotlibs_rgb(name):
    values = np.linspace(0, 1, 256).reshape(16, 16)
    expected = np.rint(np.asarray(colormaps[name](values))[..., :3] * 255)
    result = colorise(values, name)
    assert result.dtype == np.uint8
    assert np.array_equal(result, expected)


def test_the_order_is_red_green_blue():
    hottest = colorise(np.ones((1, 1)), "bwr")[0, 0]
    coldest = colorise(np.zeros((1, 1)), "bwr")[0, 0]
    assert hottest.tolist() == [255, 0, 0]
    assert coldest.tolist() == [0, 0, 255]


@pytest.mark.parametrize("name", ["viridis", "inferno", "magma", "plasma", "cividis", "gray"])
def test_perceptually_uniform_maps_rise_in_lightness(name):
    luma = colorise(np.linspace(0, 1, 64)[None], name)[0] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luma) > 0).all()


def test_the_default_is_perceptually_uniform():
    assert "perceptually uniform" in COLORMAPS[DEFAULT_COLORMAP]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_any_float_type_are_coloured_as_arrays_are(dtype):
    values = torch.tensor([[0.0, 0.25], [0.5, 1.0]], dtype=dtype, requires_grad=True)
    assert np.array_equal(colorise(values), colorise(np.array([[0.0, 0.25], [0.5, 1.0]])))


def test_values_outside_the_unit_interval_take_the_end_colours_and_bad_ones_the_first():
    result = colorise(np.array([[-3.0, 4.0, np.nan, np.inf]]))
    ends = colorise(np.array([[0.0, 1.0]]))[0]
    assert np.array_equal(result[0], ends[[0, 1, 0, 0]])


@pytest.mark.parametrize(("name", "close"), [("viridi", "viridis"), ("Inferno", "inferno"), ("JET", "jet")])
def test_an_unknown_colormap_is_named_with_close_ones(name, close):
    with pytest.raises(UsageError, match=rf"colormap '{name}' is unknown.*Did you mean.*{close}"):
        colorise(np.zeros((2, 2)), name)


def test_an_unknown_colormap_like_no_other_is_answered_with_the_list():
    with pytest.raises(UsageError, match="Pick one of viridis, inferno"):
        colorise(np.zeros((2, 2)), "1234567890")


@pytest.mark.parametrize("shape", [(3,), (1, 4, 4), (0, 4)])
def test_anything_but_one_heatmap_is_refused(shape):
    with pytest.raises(UsageError, match=r"expected one heatmap \[H, W\]"):
        colorise(np.zeros(shape))


def test_a_callers_table_cannot_be_changed_through_the_result():
    first = colorise(np.ones((1, 1)))
    first[:] = 0
    assert colorise(np.ones((1, 1)))[0, 0].sum() > 0
