import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whycam.errors import UsageError
from whycam.evaluation.localisation import energy


def left_half(height: int, width: int) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[:, : width // 2] = True
    return mask


def test_mass_at_the_masks_own_size_is_a_plain_share():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    masks = torch.tensor([[[False, True], [False, True]]])
    assert energy(maps, masks).item() == pytest.approx(0.6)


def test_negative_values_are_not_mass():
    maps = torch.tensor([[[1.0, -9.0], [-9.0, 3.0]]])
    masks = torch.tensor([[[True, True], [False, False]]])
    assert energy(maps, masks).item() == pytest.approx(0.25)


def test_a_coarse_map_is_resized_bilinearly_with_corners_not_aligned():
    # a row [1, 0] stretched to four pixels reads 1, 3/4, 1/4, 0 under half-pixel centres
    maps = torch.tensor([[[1.0, 0.0]]])
    masks = torch.tensor([[[True, False, False, False]]])
    assert energy(maps, masks).item() == pytest.approx(1 / 2)
    masks = torch.tensor([[[True, True, False, False]]])
    assert energy(maps, masks).item() == pytest.approx(1.75 / 2)


def test_the_map_is_rectified_before_it_is_resized():
    # resized first, [1, -1] would read 1, 1/2, -1/2, -1 and give 2/3
    maps = torch.tensor([[[1.0, -1.0]]])
    masks = torch.tensor([[[True, False, False, False]]])
    assert energy(maps, masks).item() == pytest.approx(1 / 2)


@pytest.mark.parametrize("value", [0.0, -1.0, 2.5, float("nan"), float("inf"), float("-inf")])
def test_a_map_that_shows_nothing_scores_the_masks_share_of_the_area(value: float):
    masks = torch.zeros(1, 10, 10, dtype=torch.bool)
    masks[0, :3, :4] = True
    assert energy(torch.full((1, 5, 5), value), masks).item() == pytest.approx(0.12)


def test_one_nan_makes_the_whole_map_uninformative_and_leaves_its_neighbours_alone():
    maps = torch.zeros(2, 2, 2)
    maps[:, 0, 0] = 1
    maps[0, 1, 1] = float("nan")
    masks = torch.zeros(2, 2, 2, dtype=torch.bool)
    masks[:, 0, 0] = True
    assert energy(maps, masks).tolist() == [0.25, 1.0]


def test_an_empty_mask_holds_no_mass():
    assert energy(torch.rand(1, 4, 4), torch.zeros(1, 8, 8, dtype=torch.bool)).tolist() == [0.0]


@pytest.mark.parametrize("scale", [1e-44, 1e38, 1e300])
def test_mass_does_not_depend_on_the_maps_scale(scale: float):
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)
    masks = torch.tensor([[[False, True], [False, True]]])
    assert energy(maps * scale, masks).item() == pytest.approx(0.6, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_masks_of_255_count_as_masks_of_one(dtype: torch.dtype):
    mask = left_half(8, 8)[None]
    maps = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(1))
    expected = energy(maps, mask)
    torch.testing.assert_close(energy(maps, mask.to(dtype) * 255), expected, rtol=0, atol=0)


@given(
    grid=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    factor=st.integers(1, 3),
    batch=st.integers(1, 3),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_a_mask_and_its_complement_share_the_mass_on_any_grid(
    grid: list[int], factor: int, batch: int, dtype: torch.dtype, seed: int
):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, *grid, generator=generator).to(dtype)
    masks = torch.rand(batch, *(length * factor for length in grid), generator=generator) < 0.4
    inside, outside = energy(maps, masks), energy(maps, ~masks)
    assert inside.dtype == torch.float32
    assert inside.ge(0).all()
    torch.testing.assert_close(inside + outside, torch.ones(batch))


def test_a_score_does_not_depend_on_its_batch():
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.randn(5, 3, 4, generator=generator), torch.rand(5, 9, 8, generator=generator) < 0.3
    alone = torch.cat([energy(maps[i : i + 1], masks[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(energy(maps, masks), alone)


@pytest.mark.parametrize(
    ("maps", "masks"),
    [((2, 4, 4), (3, 8, 8)), ((2, 4, 4), (2, 8)), ((2, 4), (2, 8, 8)), ((2,), (2,)), ((1, 4, 4), (1, 0, 4))],
)
def test_maps_and_masks_that_do_not_pair_up_are_refused(maps: tuple[int, ...], masks: tuple[int, ...]):
    with pytest.raises(UsageError, match=r"do not pair up; expected \[B, \*grid\]"):
        energy(torch.rand(maps), torch.ones(masks, dtype=torch.bool))
