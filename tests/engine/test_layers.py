"""Which layer is explained: on small networks where the right answer is known from their structure."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from tests.engine.networks import (
    CLASSES,
    Attention,
    Block,
    Branches,
    Counting,
    InPlace,
    Mean,
    Plain,
    Repeated,
    Residual,
    Transformer,
    pictures,
    plain_autograd,
    settle,
)
from torch import nn

from whycam import AbsentError, EngineError, LayerError, choose_layer, explain
from whycam.engine import LayerChoice


def chosen(model, size=(12, 12), batch=1, channels=3):
    return choose_layer(settle(model), pictures(batch, size=size, channels=channels))


def candidate(choice, path):
    return next((one for one in choice.candidates if one.path == path), None)


def assert_map_is_usable(model, images):
    maps = explain(model, images).maps
    assert maps.isfinite().all()
    assert (maps.flatten(1).amax(1) > maps.flatten(1).amin(1)).all()


class TestConvolutions:
    def test_the_last_block_of_a_residual_network(self):
        choice = chosen(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), Block(), Block(), Mean(), nn.Linear(8, CLASSES))
        )
        assert (choice.path, choice.layout, choice.grid) == ("2", "NCHW", (6, 6))

    def test_layers_inside_a_branch_are_passed_over(self):
        choice = chosen(Residual())
        assert choice.path == "blocks"
        for path in ("blocks.1.second", "blocks.1.first", "blocks.0.second"):
            assert not candidate(choice, path).trunk
            assert "branch" in candidate(choice, path).objection
        assert candidate(choice, "stem").trunk

    def test_a_sum_that_no_module_returns_leaves_the_last_layer_that_carries_all(self):
        class Summing(Residual):
            def forward(self, images):
                x = self.blocks(self.stem(images))
                return self.head((x + self.blocks[0].first(x)).mean((2, 3)))

        choice = chosen(Summing())
        assert candidate(choice, choice.path).trunk
        assert choice.path == "blocks"

    @pytest.mark.parametrize("axes", [1, 2, 3])
    def test_signals_images_and_volumes(self, axes):
        size = (24, 16, 12)[:axes]
        choice = chosen(Plain(axes), size=size)
        assert choice.path in ("last", "body_norm")
        assert choice.grid == tuple(extent // 2 for extent in size)
        assert choice.layout == ("NCL", "NCHW", "NCDHW")[axes - 1]

    def test_a_layer_without_parameters_is_chosen_where_none_has_any(self):
        class Fixed(nn.Module):
            def __init__(self):
                super().__init__()
                self.pool = nn.AvgPool2d(2)

            def forward(self, images):
                return self.pool(images.repeat(1, 4, 1, 1)).sigmoid().mean((2, 3))

        assert chosen(Fixed()).path == "pool"

    def test_a_layer_of_few_channels_or_few_positions_is_passed_over(self):
        class Narrowing(nn.Sequential):
            def __init__(self):
                super().__init__(
                    nn.Conv2d(3, 16, 3, padding=1),
                    nn.Conv2d(16, 4, 1),  # few channels
                    nn.AdaptiveAvgPool2d((2, 2)),
                    nn.Conv2d(4, 16, 1),  # few positions
                    nn.Flatten(),
                    nn.Linear(64, CLASSES),
                )

        choice = chosen(Narrowing())
        assert choice.path == "0"
        assert candidate(choice, "1") is None
        assert "positions" in candidate(choice, "3").objection

    def test_channels_last_networks(self):
        class ChannelsLast(nn.Module):
            def __init__(self):
                super().__init__()
                self.stem = nn.Conv2d(3, 16, 4, stride=4)
                self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
                self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
                self.head = nn.Linear(16, CLASSES)

            def forward(self, images):
                x = self.stem(images).movedim(1, -1)
                x = x + self.mlp(self.norm1(x))
                return self.head(self.norm2(x).mean((1, 2)))

        choice = chosen(ChannelsLast(), size=(16, 24))
        assert (choice.path, choice.layout, choice.grid) == ("norm2", "NHWC", (4, 6))
        assert not candidate(choice, "mlp").trunk

    def test_a_repeated_module_is_named_with_its_call(self):
        assert chosen(Repeated()).path == "relu#3"

    def test_a_shared_block_that_runs_several_times_can_be_explained(self):
        class Recurrent(nn.Module):
            def __init__(self):
                super().__init__()
                self.stem = nn.Conv2d(3, 8, 3, padding=1)
                self.block = Block()
                self.head = nn.Linear(8, CLASSES)

            def forward(self, images):
                x = self.stem(images)
                for _ in range(3):
                    x = self.block(x)
                return self.head(x.mean((2, 3)))

        model = settle(Recurrent())
        assert choose_layer(model, pictures()).path == "block#3"
        assert explain(model, pictures()).layer == "block#3"
        assert_map_is_usable(model, pictures())

    def test_in_place_operations_do_not_disturb_the_trace(self):
        choice = chosen(InPlace())
        reference = chosen(InPlace(inplace=False))
        assert choice.path == reference.path
        assert [one.path for one in choice.candidates] == [one.path for one in reference.candidates]

    def test_parallel_branches_leave_their_common_stem(self):
        choice = chosen(Branches())
        assert choice.path == "stem"
        assert candidate(choice, "unused") is None
        assert candidate(choice, "ignored") is None or candidate(choice, "ignored").support == 0

    def test_two_streams_without_a_common_stem_still_give_a_layer(self):
        class TwoEyes(nn.Module):
            def __init__(self):
                super().__init__()
                self.left, self.right = Residual(1), Residual(1)

            def forward(self, images):
                return self.left(images) + self.right(images.flip(-1))

        model = settle(TwoEyes())
        choice = choose_layer(model, pictures())
        assert choice.path.endswith("blocks")
        assert not candidate(choice, choice.path).trunk
        assert "carries all evidence; in this one most of it has come together" in choice.reason
        assert_map_is_usable(model, pictures())

    def test_folded_windows_are_no_candidates(self):
        class Windows(nn.Module):
            def __init__(self):
                super().__init__()
                self.stem = nn.Conv2d(3, 8, 3, padding=1)
                self.inner = nn.Conv2d(8, 8, 3, padding=1)
                self.outer = nn.Conv2d(8, 8, 1)
                self.head = nn.Linear(8, CLASSES)

            def forward(self, images):
                x = self.stem(images)  # [B, 8, 12, 12]
                windows = x.unfold(2, 6, 6).unfold(3, 6, 6).movedim((2, 3), (1, 2)).flatten(0, 2)
                x = self.inner(windows)  # [4 B, 8, 6, 6]: it fits the input's aspect
                x = x.unflatten(0, (-1, 2, 2)).movedim((1, 2), (2, 4)).flatten(4, 5).flatten(2, 3)
                return self.head(self.outer(x).sigmoid().mean((2, 3)))

        choice = chosen(Windows())
        assert choice.path == "outer"
        assert candidate(choice, "inner") is None

    def test_a_dense_prediction_is_explained_by_its_strongest_class(self):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, CLASSES, 1)
        )
        choice = chosen(model)
        assert choice.path == "1"


class TestTransformers:
    @pytest.mark.parametrize("prefix", [1, 2, 5])
    @pytest.mark.parametrize("grid", [(4, 6), (6, 4), (3, 3), (2, 7)])
    def test_a_class_tokens_last_block_is_passed_over(self, prefix, grid):
        choice = chosen(Transformer(grid, prefix), size=(4 * grid[0], 4 * grid[1]))
        assert choice.path == "blocks.1"
        assert (choice.layout, choice.grid) == ("NLC", grid)
        assert "reaches 0%" in candidate(choice, "blocks").objection

    @pytest.mark.parametrize("prefix", [0, 1, 5])
    def test_the_mean_of_the_patch_tokens_takes_the_last_norm(self, prefix):
        choice = chosen(Transformer((4, 6), prefix, pool="mean"), size=(16, 24))
        assert (choice.path, choice.grid) == ("norm", (4, 6))

    def test_inner_projections_are_passed_over(self):
        choice = chosen(Transformer((4, 6), 1, pool="mean"), size=(16, 24))
        for block in range(3):
            inner = ["norm1", "norm2", "mlp", "attention"]
            inner += [f"attention.{name}" for name in ("query", "key", "value", "out")]
            found = [candidate(choice, f"blocks.{block}.{name}") for name in inner]
            assert sum(one is not None for one in found) >= 4
            assert not any(one.trunk for one in found if one is not None)

    @pytest.mark.parametrize("pool", ["token", "mean"])
    def test_what_the_model_says_of_its_tokens_is_heard(self, pool):
        model = Transformer((2, 9), 4, pool=pool)
        model.num_prefix_tokens = 4
        model.patch_embed = nn.Identity()
        model.patch_embed.grid_size = (2, 9)
        assert chosen(model, size=(8, 36)).grid == (2, 9)

    @pytest.mark.parametrize("corner", [(0, 0), (0, 5), (3, 0), (3, 5)])
    @pytest.mark.parametrize("prefix", [1, 5])
    def test_tokens_land_in_the_right_order(self, corner, prefix):
        model = Transformer((4, 6), prefix, pool="mean", blocks=1)
        model.blocks = nn.Identity()  # without attention a patch changes its own cell alone
        settle(model)
        images = pictures(1, size=(16, 24))
        changed = images.clone()
        changed[:, :, 4 * corner[0] : 4 * corner[0] + 4, 4 * corner[1] : 4 * corner[1] + 4] += 3
        difference = (
            explain(model, changed, layer="norm", method="hirescam", target=1).maps
            - explain(model, images, layer="norm", method="hirescam", target=1).maps
        )
        assert difference[0].abs().flatten().argmax() == corner[0] * 6 + corner[1]
        assert difference[0].ne(0).sum() == 1

    def test_prefix_tokens_are_in_no_map(self):
        model = settle(Transformer((4, 6), 5)).double()
        images = pictures(size=(16, 24), dtype=torch.float64)
        tokens, gradients, _ = plain_autograd(model, images, "blocks.1", lambda outputs: outputs[:, 1])
        expected = (tokens * gradients).sum(2)[:, 5:].unflatten(1, (4, 6))
        found = explain(model, images, method="hirescam", target=1)
        assert found.layer == "blocks.1"
        torch.testing.assert_close(found.maps, expected, rtol=1e-10, atol=1e-14)

    def test_attention_maps_are_not_taken_for_pictures(self):
        class Exposed(Attention):
            def __init__(self, width):
                super().__init__(width)
                self.weights = nn.Identity()

            def forward(self, tokens):
                heads = tokens.unflatten(2, (8, -1)).transpose(1, 2)
                weights = self.weights((heads @ heads.mT).softmax(-1))  # [B, heads, N, N]
                return self.out((weights @ heads).transpose(1, 2).flatten(2))

        model = Transformer((4, 4), 0, pool="mean")
        for block in model.blocks:
            block.attention = Exposed(16)
        choice = chosen(model, size=(16, 16))
        assert choice.path == "norm"


class TestDepth:
    def test_a_chain_of_three_thousand_residual_steps(self):
        class Leaps(nn.Module):
            def __init__(self):
                super().__init__()
                self.gain = nn.Parameter(torch.full((1,), 1e-4))

            def forward(self, x):
                for _ in range(100):
                    x = x + self.gain * x
                return x

        model = nn.Sequential(
            nn.Conv1d(3, 8, 1), *[Leaps() for _ in range(30)], nn.AdaptiveAvgPool1d(1), nn.Flatten()
        )
        choice = choose_layer(model, pictures(1, size=(9,)))
        assert choice.path == "30"
        assert len(choice.candidates) == 31
        assert all(one.trunk for one in choice.candidates)

    def test_the_number_of_paths_may_pass_any_machine_number(self):
        choice = chosen(
            nn.Sequential(nn.Conv2d(3, 8, 1), *[Block() for _ in range(80)], Mean(), nn.Linear(8, 5))
        )
        assert choice.path == "80"
        assert not candidate(choice, "80.second").trunk


class TestEdges:
    def test_a_perceptron_on_flattened_pixels_is_refused_in_one_line(self):
        model = nn.Sequential(nn.Flatten(), nn.Linear(432, 64), nn.ReLU(), nn.Linear(64, CLASSES))
        with pytest.raises(LayerError, match="no layer has a grid") as caught:
            chosen(model)
        assert "\n" not in str(caught.value)

    def test_a_single_layer_as_a_model_is_refused_in_one_line(self):
        with pytest.raises(LayerError) as caught:
            chosen(nn.Conv2d(3, 8, 3))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (4, 4), (8, 8)])
    def test_tiny_inputs_give_a_layer_or_one_line(self, size):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.ReLU(),
            Mean(),
            nn.Linear(16, 5),
        )
        settle(model)
        if max(size) <= 2:  # one cell is no grid
            with pytest.raises(LayerError, match="no layer has a grid") as caught:
                choose_layer(model, pictures(1, size=size))
            assert "\n" not in str(caught.value)
            return
        choice = choose_layer(model, pictures(1, size=size))
        assert len(choice.grid) == 2
        assert explain(model, pictures(1, size=size)).maps.shape == (1, *choice.grid)

    def test_a_small_grid_is_taken_where_there_is_none_larger(self):
        choice = chosen(
            nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.Conv2d(16, 16, 1), Mean(), nn.Linear(16, 5)),
            size=(8, 8),
        )
        assert (choice.path, choice.grid) == ("1", (2, 2))
        assert "small" in choice.reason

    def test_a_head_of_zeros_is_said(self):
        """An untrained head: the gradient is zero everywhere."""
        model = settle(Residual())
        nn.init.zeros_(model.head.weight)
        choice = choose_layer(model, pictures())
        assert choice.path == "blocks"
        assert "gradient is zero everywhere" in choice.reason
        found = explain(model, pictures())
        assert found.blank.all()
        assert all("untrained head" in reason for reason in found.diagnosis())

    def test_a_model_that_detaches_is_refused_in_one_line(self):
        class Detaching(Plain):
            def forward(self, images):
                return super().forward(images).detach()

        with pytest.raises(EngineError, match="layer=") as caught:
            chosen(Detaching())
        assert "\n" not in str(caught.value)

    def test_a_frozen_backbone_that_runs_without_autograd_gives_its_layer(self):
        class Frozen(Residual):
            def forward(self, images):
                with torch.no_grad():
                    x = self.blocks(self.stem(images))
                return self.head(x.mean((2, 3)))

        model = settle(Frozen())
        assert choose_layer(model, pictures()).path == "blocks"
        reference = settle(Residual())
        assert torch.equal(explain(model, pictures()).maps, explain(reference, pictures()).maps)

    def test_wide_and_flat_inputs(self):
        """A line of text and a street scene: padding adds a cell, which the other axis has many of."""
        for size in ((65, 1000), (1000, 65), (74, 246)):
            model = nn.Sequential(
                *[nn.Sequential(nn.Conv2d(c, 8, 3, 2, 1), nn.SiLU()) for c in (3, 8, 8, 8)],
                Mean(),
                nn.Linear(8, 5),
            )
            assert chosen(model, size=size).path in ("3", "3.1")

    def test_a_choice_is_a_layer(self):
        model = settle(Residual())
        choice = choose_layer(model, pictures())
        assert isinstance(choice, LayerChoice)
        found = explain(model, pictures(), layer=choice)
        assert found.layer == choice.path
        assert torch.equal(found.maps, explain(model, pictures()).maps)


class TestMemory:
    def test_a_choice_is_remembered(self):
        model = Counting(settle(Residual()))
        first = choose_layer(model, pictures(4))
        assert model.batches == [1]
        assert choose_layer(model, pictures(2, seed=3)) is first
        assert model.batches == [1]
        explain(model, pictures(4))
        assert model.batches == [1, 4]

    def test_another_input_size_is_traced_again(self):
        model = Counting(settle(Residual()))
        assert choose_layer(model, pictures(size=(12, 12))).grid == (6, 6)
        assert choose_layer(model, pictures(size=(16, 8))).grid == (8, 4)
        assert len(model.batches) == 2

    def test_a_replaced_part_of_another_kind_is_traced_again(self):
        model = settle(Residual())
        assert choose_layer(model, pictures()).path == "blocks"
        model.blocks = nn.Identity()
        assert choose_layer(model, pictures()).path == "stem"

    def test_a_replaced_part_of_the_same_kind_is_traced_again(self):
        model = settle(Residual())
        assert choose_layer(model, pictures()).grid == (6, 6)
        model.stem = nn.Conv2d(3, 8, 3, padding=1)
        assert choose_layer(model, pictures()).grid == (12, 12)

    def test_a_replaced_part_with_other_channels_is_traced_again(self):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), Mean(), nn.Linear(4, CLASSES)
        )
        assert chosen(model).path == "0"
        model[1], model[3] = nn.Conv2d(8, 16, 1), nn.Linear(16, CLASSES)
        assert chosen(model).path == "1"

    def test_a_head_that_has_learned_is_traced_again(self):
        model = settle(Residual())
        nn.init.zeros_(model.head.weight)
        choose_layer(model, pictures())
        settle(model)
        assert "zero" not in choose_layer(model, pictures()).reason

    def test_copies_remember_for_themselves(self):
        model = settle(Residual())
        choose_layer(model, pictures())
        copied = deepcopy(model)
        copied.blocks = nn.Identity()
        assert choose_layer(copied, pictures()).path == "stem"
        assert choose_layer(model, pictures()).path == "blocks"


class TestReason:
    def test_the_reason_and_the_runners_up(self):
        choice = chosen(Residual())
        assert "6 x 6" in choice.reason
        assert "8 channels" in choice.reason
        assert "100%" in choice.reason
        assert "\n" not in choice.reason
        assert {one.path for one in choice.candidates} >= {"blocks", "stem", "blocks.0"}
        depth = [one.path for one in choice.candidates]
        assert depth.index("blocks") < depth.index("blocks.0") < depth.index("stem")
        for one in choice.candidates:
            assert 0 <= one.support <= 1
            assert bool(one.objection) == (one.path not in ("blocks", "blocks.0", "stem"))

    def test_support_is_the_share_of_positions_with_gradient(self):
        class Half(Residual):
            def forward(self, images):
                return self.head(self.blocks(self.stem(images))[..., :2].mean((2, 3)))

        choice = chosen(Half(blocks=1))
        one = candidate(choice, "blocks")
        assert one.support == pytest.approx(2 / 6)
        assert "33%" in one.objection
        # The stem's gradient spreads by two 3 x 3 convolutions: 4 of its 6 columns.
        assert candidate(choice, "stem").support == pytest.approx(4 / 6)
        assert choice.path == "stem"

    def test_dropout_in_train_mode_does_not_disturb_the_trace(self):
        class Noisy(Residual):
            def forward(self, images):
                return self.head(F.dropout(self.blocks(self.stem(images)), 0.9, self.training).mean((2, 3)))

        model = settle(Noisy()).train()
        assert candidate(choose_layer(model, pictures()), "blocks").support == 1.0
        assert model.training


class TestWhatIsNoGrid:
    class Detector(nn.Module):
        """Patches, and queries that look at them; as many queries as there are patches."""

        def __init__(self, told):
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 4, stride=4)
            self.norm = nn.LayerNorm(16)
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.after = nn.LayerNorm(16)
            self.head = nn.Linear(16, CLASSES)
            self.register_buffer(
                "queries", torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(3))
            )
            if told:
                self.num_queries = 16

        def forward(self, images):
            tokens = self.norm(self.patches(images).flatten(2).transpose(1, 2))
            queries = self.queries + self.attention(self.queries, tokens, tokens, need_weights=False)[0]
            return self.head(self.after(queries))

    def test_queries_are_no_positions_where_the_model_says_how_many_it_has(self):
        choice = chosen(self.Detector(told=True), size=(16, 16))
        assert choice.path == "patches"  # there are as many queries as tokens: by shape the two are the same
        assert "on no grid" in candidate(choice, "after").objection

    def test_queries_whose_number_fits_no_grid_of_the_image_are_no_positions(self):
        choice = chosen(self.Detector(told=False), size=(24, 24))  # 6 x 6 patches, 16 queries
        assert choice.path == "norm"

    def test_a_part_that_its_own_output_passes_by_is_not_the_layers_name(self):
        class Backbone(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Conv2d(3, 16, 3, padding=1)
                self.norm = nn.BatchNorm2d(16)

            def forward(self, images):
                features = self.norm(self.body(images))
                return {"features": features, "pooled": features.mean((2, 3))}

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.backbone = Backbone()
                self.head = nn.Linear(16, CLASSES)

            def forward(self, images):
                return self.head(self.backbone(images)["pooled"])

        model = settle(Net())
        assert choose_layer(model, pictures()).path == "backbone.norm"
        assert explain(model, pictures(), target=1).maps.isfinite().all()

    def test_a_class_over_all_places_is_explained_by_what_it_was_made_of(self):
        class Dense(nn.Sequential):
            def __init__(self):
                super().__init__(
                    nn.Conv2d(3, 16, 3, padding=1),
                    nn.ReLU(),
                    nn.Conv2d(16, 12, 1),
                    nn.Upsample(scale_factor=2),
                )

        assert chosen(Dense()).path == "1"

    def test_a_detector_that_finds_nothing_says_so(self):
        class Nothing(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Conv2d(3, 16, 3, padding=1)

            def forward(self, images):
                found = self.body(images).flatten()
                return [{"boxes": found[:0].reshape(0, 4), "scores": found[:0]} for _ in images]

        with pytest.raises(AbsentError, match="found nothing in this image"):
            chosen(Nothing())
