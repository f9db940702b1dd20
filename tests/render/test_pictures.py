import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whycam import render
from whycam.errors import UsageError
from whycam.render import picture_of


def test_values_in_the_unit_interval_are_shown_as_they_are():
    image = torch.zeros(3, 2, 1)
    image[:, 0, 0] = torch.tensor([0.2, 0.4, 0.8])
    drawn = picture_of(image)
    assert drawn.mode == "RGB"
    assert np.asarray(drawn).tolist() == [[[51, 102, 204]], [[0, 0, 0]]]


@given(mean=st.floats(-3, 3), scale=st.floats(0.05, 0.4), seed=st.integers(0, 99))
def test_a_normalised_photograph_keeps_its_hues_whatever_it_was_normalised_with(mean, scale, seed):
    """One shift and one scale for all channels: what was gray stays gray, what was brightest stays so."""
    photograph = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(seed))
    photograph.flatten()[0], photograph.flatten()[1] = 0.0, 1.0
    photograph = (photograph - photograph.min()) / (photograph.max() - photograph.min())
    drawn = np.asarray(picture_of((photograph - mean - 4) / scale)).astype(int)
    expected = np.rint(photograph.permute(1, 2, 0).numpy() * 255)
    assert np.abs(drawn - expected).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_any_other_number_of_channels_is_gray(channels):
    image = torch.rand(channels, 3, 4, generator=torch.Generator().manual_seed(0))
    drawn = np.asarray(picture_of(image))
    assert np.array_equal(drawn[..., 0], np.rint(image.mean(0).numpy() * 255))
    assert (drawn.max(-1) == drawn.min(-1)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_and_images_with_gradients_are_shown(dtype):
    image = torch.tensor([[[0.0, 1.0]]], dtype=dtype, requires_grad=True)
    assert np.asarray(picture_of(image))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("value", [-2.0, 0.0, 0.5, 7.0])
def test_a_constant_image_is_flat(value):
    assert len(np.unique(np.asarray(picture_of(torch.full((3, 4, 4), value))))) == 1


def test_values_that_are_not_finite_are_drawn_as_the_lowest():
    drawn = np.asarray(picture_of(torch.tensor([[[-2.0, 2.0, float("nan"), float("inf")]]])))
    assert drawn[0, :, 0].tolist() == [0, 255, 0, 0]
    assert (np.asarray(picture_of(torch.full((3, 2, 2), float("nan")))) == 0).all()


@pytest.mark.parametrize("shape", [(3, 0, 4), (0, 4, 4)])
def test_an_image_without_pixels_is_refused(shape):
    with pytest.raises(UsageError, match=r"expected one image \[C, H, W\]"):
        picture_of(torch.zeros(shape))


def test_importing_the_room_does_not_import_matplotlib():
    heavy = {"matplotlib", "contourpy", "fontTools"}
    asked = f"import sys, whycam.render; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_public_names_are_these():
    assert render.__all__ == [
        "COLORMAPS",
        "DEFAULT_COLORMAP",
        "ConstantOpacity",
        "MagnitudeOpacity",
        "MissingGlyphWarning",
        "Normalisation",
        "Opacity",
        "SheetRow",
        "colorise",
        "contour",
        "draw_text",
        "font_for",
        "heatmap_picture",
        "iso_lines",
        "native_grid",
        "normalise",
        "overlay",
        "picture_of",
        "printable",
        "rectify",
        "resize",
        "sheet",
        "to_heatmaps",
        "with_caution",
    ]
    assert all(hasattr(render, name) for name in render.__all__)
