import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch
import torchvision.models
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as tvf

import whycam.models.preprocessing
from whycam.errors import ImageError, ModelError, UsageError
from whycam.models import Preprocessing

# odd, tall, wide, smaller than every crop, and as large as one
SIZES = [(223, 301), (320, 37), (5, 7), (1, 1), (224, 224)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@cache
def _noise(height: int, width: int) -> Image.Image:
    generator = np.random.default_rng(height * 1009 + width)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


class _Configured(nn.Module):
    """A network that is nothing but its timm configuration."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.pretrained_cfg = config


def _timm_view(module: nn.Module, picture: Image.Image) -> Tensor:
    config = timm.data.resolve_model_data_config(module)
    return timm.data.create_transform(**config, is_training=False)(picture)


@pytest.mark.parametrize(
    "name",
    [
        "resnet10t",  # a crop of 176 out of 201
        "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
        "convnext_atto",
        "mobilenetv3_small_050",
        "test_resnet",
    ],
)
def test_a_timm_network_sees_exactly_what_timm_shows_it(name: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(name, pretrained=False)
    for size in SIZES:
        view, _ = Preprocessing.from_timm(module).apply(_noise(*size))
        assert torch.equal(view, _timm_view(module, _noise(*size)))


def _distinct_timm_configs() -> Iterator[Any]:
    seen = set()
    for name in timm.list_models(include_tags=True):
        config = timm.get_pretrained_cfg(name)
        if config is None or config.input_size[-1] > 300:
            continue  # larger ones differ in nothing but the time they take
        key = (config.input_size, config.crop_pct, config.crop_mode, config.interpolation)
        if key not in seen:
            seen.add(key)
            yield pytest.param(config.to_dict(), id=name)


@pytest.mark.parametrize("config", list(_distinct_timm_configs()))
def test_every_way_of_cropping_that_timm_publishes_is_followed_exactly(config: dict[str, Any]) -> None:
    module = _Configured(config)
    view, _ = Preprocessing.from_timm(module).apply(_noise(101, 167))
    assert torch.equal(view, _timm_view(module, _noise(101, 167)))


@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 1.15])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_oblong_inputs_and_every_crop_mode_are_followed_exactly(
    crop_pct: float, mode: str, interpolation: str
) -> None:
    for extent, size in product([(96, 96), (64, 96), (97, 55)], [(223, 301), (320, 37), (33, 250), (5, 7)]):
        module = _Configured(
            {
                "input_size": (3, *extent),
                "crop_pct": crop_pct,
                "crop_mode": mode,
                "interpolation": interpolation,
                "mean": (0.5, 0.4, 0.3),
                "std": (0.2, 0.3, 0.4),
            }
        )
        view, _ = Preprocessing.from_timm(module).apply(_noise(*size))
        assert torch.equal(view, _timm_view(module, _noise(*size)))


def _distinct_torchvision_presets() -> Iterator[Any]:
    seen = set()
    for name in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            preset = repr(weights.transforms())
            if preset not in seen:
                seen.add(preset)
                yield pytest.param(weights, id=str(weights))


@pytest.mark.parametrize("weights", list(_distinct_torchvision_presets()))
def test_every_preset_torchvision_publishes_is_followed_exactly(weights: Any) -> None:
    for size in ((97, 131), (5, 7)):
        view, _ = Preprocessing.from_torchvision(weights).apply(_noise(*size))
        assert torch.equal(view, weights.transforms()(_noise(*size)))


def test_a_preset_for_detection_is_refused(refused: Any) -> None:
    detection = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT
    with refused(ModelError, "ObjectDetection", "classifier"):
        Preprocessing.from_torchvision(detection)


def test_an_unknown_crop_mode_of_timm_is_refused(refused: Any) -> None:
    with refused(ModelError, "'diagonal'", "center, squash or border"):
        Preprocessing.from_timm(_Configured({"crop_mode": "diagonal"}))


def test_a_configuration_that_makes_no_sense_is_the_networks_fault_not_the_callers(refused: Any) -> None:
    with refused(ModelError, "crop_pct", "3"):
        Preprocessing.from_timm(_Configured({"crop_pct": 3.0}))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(223, 301), (640, 37), (5, 7), (48, 64)])
def test_without_antialias_is_torchvisions_resize_of_a_tensor(
    size: tuple[int, int], interpolation: str
) -> None:
    plain = Preprocessing(
        (48, 64), "squash", (48, 64), interpolation, (0.0,) * 3, (1.0,) * 3, antialias=False
    )
    pixels = tvf.pil_to_tensor(_noise(*size))
    mode = tvf.InterpolationMode(interpolation)
    expected = tvf.resize(pixels, [48, 64], interpolation=mode, antialias=False)
    view, _ = plain.apply(_noise(*size))
    assert torch.equal(view, expected.float() / 255)


@pytest.mark.parametrize("antialias", [True, False])
def test_one_channel_is_the_luma_taken_before_the_resize(antialias: bool) -> None:
    gray = Preprocessing(
        (40, 50), "squash", (40, 50), "bilinear", (0.5,), (0.25,), 1, "center", (0,), antialias
    )
    picture = _noise(91, 77)
    luma = Image.fromarray(np.array(picture.convert("L")))
    expected, _ = Preprocessing(
        (40, 50), "squash", (40, 50), "bilinear", (0.5,) * 3, (0.25,) * 3, antialias=antialias
    ).apply(luma.convert("RGB"))
    view, _ = gray.apply(picture)
    assert view.shape == (1, 40, 50)
    assert torch.equal(view[0], expected[0])


def test_keep_crops_and_pads_without_resizing() -> None:
    keep = Preprocessing((4, 6), "keep", (4, 6), "bilinear", (0.0,) * 3, (1.0,) * 3, fill=(9, 9, 9))
    picture = _noise(8, 4)
    view, geometry = keep.apply(picture)
    expected = tvf.pil_to_tensor(picture)[:, 2:6].float() / 255
    assert torch.equal(view[:, :, 1:5], expected)
    assert torch.equal(view[:, :, [0, 5]], torch.full((3, 4, 2), 9 / 255))
    assert geometry.box == (2.0, -1.0, 6.0, 5.0)


SHOWN = [
    Preprocessing.for_size((40, 40), MEAN, STD, crop_pct=0.8),
    Preprocessing.for_size((40, 40), MEAN, STD, crop_pct=0.8, interpolation="bicubic"),
    Preprocessing.for_size((31, 52), MEAN, STD, crop_pct=0.9),
    Preprocessing.for_size((40, 33), MEAN, STD, resize="squash"),
    Preprocessing.for_size((40, 40), MEAN, STD, resize="squash", crop_pct=0.7),
    Preprocessing.for_size((41, 40), MEAN, STD, resize="longest"),
    Preprocessing.for_size((40, 40), MEAN, STD, resize="longest", crop_pct=0.8),
    Preprocessing((40, 40), "keep", (40, 40), "bilinear", MEAN, STD),
    Preprocessing((40, 40), "squash", (40, 40), "bilinear", MEAN, STD, antialias=False),
    Preprocessing((40, 40), "squash", (40, 40), "bilinear", MEAN, STD, channel_order="bgr"),
    Preprocessing((40, 60), "bounded", (40, 60), "bilinear", MEAN, STD),
    Preprocessing((40, 60), "bounded", (40, 60), "bilinear", MEAN, STD, side_multiple=8),
    Preprocessing(
        (40, 60), "bounded", (40, 60), "bilinear", MEAN, STD, side_multiple=8, side_rounding="down"
    ),
]


@settings(max_examples=250, deadline=None)
@given(
    preprocessing=st.sampled_from(SHOWN),
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    row=st.floats(0, 1, exclude_max=True),
    column=st.floats(0, 1, exclude_max=True),
)
@example(SHOWN[0], 41, 87, 0.5, 0.5)
def test_a_bright_pixel_lands_where_the_geometry_says(
    preprocessing: Preprocessing, height: int, width: int, row: float, column: float
) -> None:
    y, x = int(row * height), int(column * width)
    # without smoothing, a resize that shrinks may step over the pixel
    assume(preprocessing.antialias or (height <= 40 and width <= 40))
    # at the picture's own rim the resize mirrors nothing and the spot is lopsided
    assume(3 <= y < height - 3 and 3 <= x < width - 3)
    pixels = np.zeros((height, width, 3), np.uint8)
    black, geometry = preprocessing.apply(Image.fromarray(pixels))
    pixels[y, x] = 255
    lit, _ = preprocessing.apply(Image.fromarray(pixels))
    assert geometry.original == (height, width)
    top, left, bottom, right = geometry.box
    rows, columns = lit.shape[1:]
    expected_row = (y + 0.5 - top) / (bottom - top) * rows
    expected_column = (x + 0.5 - left) / (right - left) * columns
    _assert_spot((lit - black)[0], expected_row, expected_column, geometry.box, (rows, columns))


def _assert_spot(
    difference: Tensor, row: float, column: float, box: tuple[float, ...], size: tuple[int, int]
) -> None:
    spread = (3 * max(1, size[0] / (box[2] - box[0])), 3 * max(1, size[1] / (box[3] - box[1])))
    away = not -spread[0] < row < size[0] + spread[0] or not -spread[1] < column < size[1] + spread[1]
    if away:
        assert difference.count_nonzero() == 0
    if spread[0] < row < size[0] - spread[0] and spread[1] < column < size[1] - spread[1]:
        light = difference.clamp(min=0).double()
        rows, columns = (torch.arange(length) + 0.5 for length in size)
        found_row = float((light.sum(1) * rows).sum() / light.sum())
        found_column = float((light.sum(0) * columns).sum() / light.sum())
        assert math.dist((found_row,), (row,)) < 0.5
        assert math.dist((found_column,), (column,)) < 0.5


def test_a_squashed_picture_is_seen_whole() -> None:
    _, geometry = Preprocessing.for_size((40, 33), MEAN, STD, resize="squash").apply(_noise(123, 77))
    assert geometry.box == (0, 0, 123, 77)


def test_padding_reaches_outside_the_picture_and_has_the_mean_colour() -> None:
    border = Preprocessing.for_size((40, 40), MEAN, STD, resize="longest")
    view, geometry = border.apply(Image.new("RGB", (100, 50), "white"))
    assert geometry.box == (-25.0, 0.0, 75.0, 100.0)
    # the mean is rounded to a colour of 8 bits, so the padding is 0 to half a step
    assert view[:, 0].abs().max() <= 0.5 / 255 / min(STD) + 1e-6


@pytest.mark.parametrize("preprocessing", SHOWN)
def test_a_manifest_gives_back_the_same_preprocessing(preprocessing: Preprocessing) -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


def test_the_description_tells_apart_what_differs() -> None:
    assert len({preprocessing.describe() for preprocessing in SHOWN}) == len(SHOWN)


@pytest.mark.parametrize("size", [(1, 50_000), (50_000, 1)])
def test_a_hair_of_a_picture_is_refused_before_memory_is_taken(size: tuple[int, int], refused: Any) -> None:
    with refused(ImageError, "50000", "squash"):
        Preprocessing.for_size((224, 224), MEAN, STD).apply(Image.new("RGB", size))


def test_a_picture_that_would_shrink_to_nothing_is_refused(refused: Any) -> None:
    with refused(ImageError, "1 x 2000", "0 x 40"):
        Preprocessing.for_size((40, 40), MEAN, STD, resize="longest").apply(Image.new("RGB", (2000, 1)))


def test_an_empty_picture_is_refused(refused: Any) -> None:
    with refused(ImageError, "0 x 5", "at least 1 x 1"):
        Preprocessing.for_size((40, 40), MEAN, STD).apply(Image.new("RGB", (5, 0)))


def test_another_size_keeps_the_share_of_the_crop() -> None:
    published = Preprocessing.from_torchvision(torchvision.models.ResNet18_Weights.DEFAULT)
    assert (published.size, published.resize_to) == ((224, 224), (256, 256))
    larger = published.with_size((448, 448))
    assert (larger.size, larger.resize_to) == ((448, 448), (512, 512))


@pytest.mark.parametrize(
    ("picture", "view"),
    [
        ((100, 100), (40, 40)),
        ((100, 130), (40, 52)),
        ((130, 100), (52, 40)),
        ((100, 200), (30, 60)),  # the longer edge is the limit
        ((200, 101), (60, 30)),
        ((40, 55), (40, 55)),
        ((10, 12), (40, 48)),
    ],
)
def test_a_bounded_picture_keeps_its_shape_and_is_seen_whole(
    picture: tuple[int, int], view: tuple[int, int]
) -> None:
    bounded = Preprocessing((40, 60), "bounded", (40, 60), "bilinear", MEAN, STD)
    seen, geometry = bounded.apply(Image.new("RGB", (picture[1], picture[0])))
    assert tuple(seen.shape[1:]) == view
    assert geometry.original == picture
    assert geometry.box == pytest.approx((0, 0, *picture))


@pytest.mark.parametrize(("rounding", "view"), [("up", (48, 64)), ("down", (32, 48))])
def test_bounded_sides_are_rounded_to_a_multiple(rounding: Any, view: tuple[int, int]) -> None:
    bounded = Preprocessing(
        (40, 60), "bounded", (40, 60), "bilinear", MEAN, STD, side_multiple=16, side_rounding=rounding
    )
    seen, _ = bounded.apply(Image.new("RGB", (130, 100)))
    assert tuple(seen.shape[1:]) == view


def test_blue_comes_first_where_the_network_takes_it_first() -> None:
    plain = Preprocessing((2, 2), "squash", (2, 2), "nearest", (0.0, 0.1, 0.2), (1.0, 2.0, 4.0))
    seen, _ = replace(plain, channel_order="bgr").apply(Image.new("RGB", (3, 3), (255, 51, 0)))
    torch.testing.assert_close(seen[:, 0, 0], torch.tensor([0.0, 0.05, 0.2]))


@pytest.fixture
def as_shipped(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module without the tests' type checks, which would answer before the module does."""
    spec = spec_from_file_location("preprocessing_as_shipped", whycam.models.preprocessing.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": (0, 4)}, ("size", "above 0")),
        ({"size": 224}, ("size", "(height, width)")),
        ({"size": (224.0, 224)}, ("size", "whole pixels")),
        ({"resize": "stretch"}, ("resize", "'stretch'", "'squash'")),
        ({"interpolation": "random"}, ("interpolation", "'random'", "'bicubic'")),
        ({"crop": "five"}, ("crop", "'five'", "'center-floor'")),
        ({"channels": 4}, ("channels", "'4'")),
        ({"mean": (0.5,)}, ("mean", "3 value(s)")),
        ({"mean": (123.7, 116.3, 103.5)}, ("mean", "divide", "255")),
        ({"mean": (math.nan,) * 3}, ("mean",)),
        ({"std": (58.4, 57.1, 57.4)}, ("std", "255")),
        ({"std": (0.2, 0.0, 0.2)}, ("std", "above 0")),
        ({"fill": (0, 0, 256)}, ("fill", "0 to 255")),
        ({"antialias": False, "interpolation": "lanczos"}, ("antialias", "'lanczos'")),
        ({"channel_order": "rbg"}, ("channel_order", "'rbg'", "'bgr'")),
        ({"resize": "bounded", "resize_to": (50, 50)}, ("resize_to is (50, 50)", "(40, 40)")),
        ({"resize": "bounded", "side_multiple": 0}, ("side_multiple is 0", "above 0")),
        ({"resize": "bounded", "side_multiple": 41}, ("side_multiple is 41", "no larger")),
        ({"side_multiple": 8}, ("side_multiple is 8", "resize='bounded'")),
        ({"side_rounding": "near"}, ("side_rounding", "'near'", "'down'")),
    ],
)
def test_values_that_make_no_sense_are_refused(
    changes: dict[str, Any], words: tuple[str, ...], as_shipped: ModuleType, refused: Any
) -> None:
    values: dict[str, Any] = {
        "size": (40, 40),
        "resize": "squash",
        "resize_to": (40, 40),
        "interpolation": "bilinear",
        "mean": MEAN,
        "std": STD,
    }
    with refused(UsageError, *words):
        as_shipped.Preprocessing(**{**values, **changes})


def test_a_crop_share_above_two_is_refused(refused: Any) -> None:
    with refused(UsageError, "crop_pct", "2.5"):
        Preprocessing.for_size((40, 40), MEAN, STD, crop_pct=2.5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"size": [40, 40], "colour": 1}, ("unknown", "'colour'")),
        ({"size": [40, 40]}, ("incomplete",)),
        ({**SHOWN[0].to_dict(), "mean": ["a", "b", "c"]}, ("wrong types",)),
    ],
)
def test_a_damaged_manifest_is_refused(data: dict[str, Any], words: tuple[str, ...], refused: Any) -> None:
    with refused(UsageError, *words):
        Preprocessing.from_dict(data)


def test_an_input_that_no_memory_holds_is_refused_by_name(refused: Any) -> None:
    with refused(UsageError, "size is (9999999, 9999999)", "at most 134217728 pixels"):
        Preprocessing.for_size((9999999, 9999999), MEAN, STD)
