"""From a model and images to an explanation: what is accepted, what is shared, what is refused."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from tests.brief import FEW, brief
from tests.engine.networks import (
    CLASSES,
    Counting,
    Plain,
    Residual,
    Transformer,
    pictures,
    plain_autograd,
    settle,
)
from torch import nn

from whycam import (
    METHODS,
    Contrast,
    LayerError,
    MethodError,
    Probability,
    Rank,
    TargetError,
    TopClass,
    UsageError,
    choose_layer,
    explain,
    explain_methods,
    explain_targets,
)
from whycam.explainer import Preparing
from whycam.methods import Method
from whycam.targets import ClassPerImage, PerImage
from whycam.types import CropGeometry

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model():
    return settle(Residual()).double()


@pytest.fixture
def images():
    return pictures(5, dtype=torch.float64)


def one_line(caught):
    return "\n" not in str(caught.value)


class TestWhatComesOut:
    def test_gradcam_by_plain_autograd(self, model, images):
        found = explain(model, images, layer="blocks.0", target=1)
        activations, gradients, outputs = plain_autograd(
            model, images, "blocks.0", lambda outputs: outputs[:, 1]
        )
        expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1)
        torch.testing.assert_close(found.maps, expected, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(found.outputs, outputs)
        torch.testing.assert_close(found.scores, outputs[:, 1])
        assert found.layer == "blocks.0"

    def test_without_a_target_each_images_top_class(self, model, images):
        found = explain(model, images)
        assert torch.equal(found.classes, found.outputs.argmax(1))
        assert torch.equal(found.scores, found.outputs.amax(1))
        expected = explain(model, images, target=found.outputs.argmax(1).tolist())
        assert torch.equal(found.maps, expected.maps)

    def test_a_target_an_image(self, model, images):
        found = explain(model, images, layer="blocks.0", target=[4, 0, 1, 1, 3])
        for number, index in enumerate([4, 0, 1, 1, 3]):
            alone = explain(model, images, layer="blocks.0", target=index)
            torch.testing.assert_close(found.maps[number], alone.maps[number], rtol=1e-10, atol=1e-14)

    def test_a_contrast_is_the_difference_of_two_linear_maps(self, model, images):
        of, against, both = explain_targets(
            model, images, [1, 2, Contrast(1, 2)], layer="blocks.0", method="hirescam"
        )
        torch.testing.assert_close(both.maps, of.maps - against.maps, rtol=1e-9, atol=1e-13)

    def test_several_targets_equal_each_alone_and_share_the_outputs(self, model, images):
        targets = [0, None, Rank(2), Probability(3), [0, 1, 2, 3, 4], lambda outputs: outputs.square().sum(1)]
        found = explain_targets(model, images, targets, layer="blocks.0")
        for one, target in zip(found, targets, strict=True):
            alone = explain(model, images, target=target, layer="blocks.0")
            assert torch.equal(one.maps, alone.maps)
            assert torch.equal(one.scores, alone.scores)
            assert torch.equal(one.classes, alone.classes)

    def test_the_maps_stay_on_the_models_device_and_hold_no_graph(self, model, images):
        found = explain(model, images)
        assert found.maps.device == images.device
        for value in (found.maps, found.scores, found.classes, found.outputs, found.blank, found.images):
            assert not value.requires_grad
            assert not value.is_inference()

    def test_maps_are_signed_and_not_normalised(self, model, images):
        maps = explain(model, images, layer="blocks.0", method="hirescam").maps
        assert maps.min() < 0
        model.head.weight.data.mul_(1000)
        larger = explain(model, images, layer="blocks.0", method="hirescam").maps
        assert larger.abs().max() > 100 * maps.abs().max()

    @pytest.mark.parametrize("axes", [1, 2, 3])
    @pytest.mark.parametrize(
        "method", [n for n, m in METHODS.items() if n != "dff" and not m.takes_attention]
    )
    def test_every_method_on_grids_of_any_number_of_axes(self, method, axes):
        images = pictures(size=(12, 10, 8)[:axes])
        found = explain(settle(Plain(axes)), images, method=brief(method), layer="last")
        on_input = not METHODS[method].takes_layer or method == "guidedgradcam"
        grid = images.shape[2:] if on_input else tuple(extent // 2 for extent in images.shape[2:])
        if method in ("sobol", "extremal"):  # on a grid of their own
            grid = (FEW[method]["cells"],) * axes
        assert found.maps.shape == (2, *grid)
        assert found.maps.isfinite().all()
        assert not found.blank.any()

    def test_memory_formats_and_strides_change_nothing(self, model, images):
        expected = explain(model, images).maps
        formatted = explain(model.to(memory_format=torch.channels_last),
                            images.to(memory_format=torch.channels_last)).maps  # fmt: skip
        torch.testing.assert_close(formatted, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(
            explain(model, images.mT.contiguous().mT).maps, expected, rtol=1e-9, atol=1e-12
        )

    def test_images_that_want_gradients_themselves(self, model, images):
        expected = explain(model, images).maps
        images.requires_grad_()
        found = explain(model, images * 1)
        assert torch.equal(found.maps, expected)
        assert images.grad is None
        assert not found.images.requires_grad


TARGETS = [
    *[None, 2, [4, 0, 1, 1, 3], torch.tensor([0, 1, 2, 3, 4]), np.array([0, 1, 2, 3, 4])],
    *[Rank(2), Probability(), Probability(2), Contrast(TopClass(), 0), Contrast(3, Probability(Rank(2)))],
    *[[TopClass(), 1, Rank(2), 3, Contrast(1, 2)], lambda outputs: outputs.square().sum(1)],
]


class TestBatches:
    @pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
    @pytest.mark.parametrize("target", TARGETS, ids=lambda value: str(value).split(" at 0x")[0])
    def test_batches_equal_the_whole(self, model, images, batch_size, target):
        options = {"layer": "blocks.0", "method": "layercam", "target": target}
        whole = explain(model, images, **options)
        parts = explain(model, images, **options, batch_size=batch_size)
        for name in ("maps", "scores", "outputs", "gradient_peak"):
            torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-13)
        for name in ("classes", "blank", "images"):
            assert torch.equal(getattr(parts, name), getattr(whole, name))
        assert (parts.layer, parts.method, parts.size) == (whole.layer, whole.method, whole.size)
        assert len(parts) == 5
        torch.testing.assert_close(parts.targets(parts.outputs), parts.scores)
        assert parts.targets.describe() == whole.targets.describe()

    def test_batches_of_the_asked_size_run(self):
        model = Counting(settle(Residual()))
        explain(model, pictures(5), layer="net.blocks.0", batch_size=2)
        assert model.batches == [2, 2, 1]

    def test_batches_with_several_targets_and_methods(self, model, images):
        whole = explain_targets(model, images, [0, [0, 1, 2, 3, 4], TopClass()], layer="blocks.0")
        parts = explain_targets(
            model, images, [0, [0, 1, 2, 3, 4], TopClass()], layer="blocks.0", batch_size=2
        )
        for one, other in zip(whole, parts, strict=True):
            torch.testing.assert_close(one.maps, other.maps, rtol=1e-9, atol=1e-13)
        parts = explain_methods(model, images, ["gradcam", "eigencam"], layer="blocks.0", batch_size=3)
        assert [part.method for part in parts] == ["gradcam", "eigencam"]
        for part in parts:
            whole = explain(model, images, method=part.method, layer="blocks.0")
            torch.testing.assert_close(part.maps, whole.maps, rtol=1e-7, atol=1e-11)

    def test_mixed_targets_stay_in_their_images_order(self, model, images):
        targets = [TopClass(), 1, Rank(2), 3, Contrast(1, 2)]
        found = explain(model, images, layer="blocks.0", target=targets, batch_size=2)
        assert isinstance(found.targets, PerImage)
        logits = found.outputs
        expected = [
            logits[0].max(),
            logits[1, 1],
            logits[2].sort().values[-2],
            logits[3, 3],
            logits[4, 1] - logits[4, 2],
        ]
        torch.testing.assert_close(found.scores, torch.stack(expected))
        assert found.classes.tolist()[1::2] == [1, 3]

    def test_classes_an_image_are_joined(self, model, images):
        found = explain(model, images, layer="blocks.0", target=[4, 0, 1, 1, 3], batch_size=2)
        assert isinstance(found.targets, ClassPerImage)
        assert found.targets.indices.tolist() == [4, 0, 1, 1, 3]
        assert found.classes.tolist() == [4, 0, 1, 1, 3]

    def test_a_wrong_count_is_said_before_anything_runs(self):
        model = Counting(settle(Residual()))
        with pytest.raises(TargetError, match="3 targets for 5 images"):
            explain(model, pictures(5), layer="net.blocks.0", target=[0, 1, 2], batch_size=3)
        assert model.batches == []

    @pytest.mark.parametrize("batch_size", [0, -1])
    def test_a_batch_size_below_one_is_refused(self, model, images, batch_size):
        with pytest.raises(UsageError, match=f"batch_size is {batch_size}; expected at least 1"):
            explain(model, images, batch_size=batch_size)

    def test_outputs_in_a_container_are_joined_as_they_were(self, model, images):
        class Wrapped(nn.Module):
            def __init__(self, net):
                super().__init__()
                self.net = net

            def forward(self, images):
                logits = self.net(images)
                return {"logits": logits, "pair": (logits * 2, "note")}

        whole = explain(Wrapped(model), images, layer="net.blocks.0")
        parts = explain(Wrapped(model), images, layer="net.blocks.0", batch_size=2)
        torch.testing.assert_close(parts.maps, whole.maps, rtol=1e-9, atol=1e-13)
        assert isinstance(parts.outputs, dict)
        torch.testing.assert_close(parts.outputs["logits"], whole.outputs["logits"], rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(parts.outputs["pair"][0], whole.outputs["pair"][0], rtol=1e-9, atol=1e-13)


class TestLayers:
    def test_a_layer_by_path_by_module_by_choice_and_by_default(self, model, images):
        chosen = choose_layer(model, images)
        expected = explain(model, images)
        assert expected.layer == chosen.path
        for layer in (
            chosen,
            chosen.path,
            model.get_submodule(chosen.path),
            [chosen.path],
            [chosen],
            (chosen.path,),
        ):
            found = explain(model, images, layer=layer)
            assert torch.equal(found.maps, expected.maps)
            assert found.layer == chosen.path

    def test_several_layers_are_fused_from_shallow_to_deep(self, model, images):
        from whycam.methods import fuse

        layers = ["stem", "blocks.0", "blocks.1"]
        found = explain(model, images, layer=layers, method="layercam")
        each = [explain(model, images, layer=layer, method="layercam").maps for layer in layers]
        torch.testing.assert_close(found.maps, fuse(each), rtol=1e-10, atol=1e-14)
        assert found.layer == "stem + blocks.0 + blocks.1"

    def test_layers_of_different_grids_are_fused_on_the_finest(self):
        model = settle(Plain())
        found = explain(model, pictures(), layer=["relu", "last"], method="layercam")
        assert found.maps.shape == (2, 12, 12)

    def test_no_layers_at_all_are_refused(self, model, images):
        with pytest.raises(LayerError, match="no layers; give one, several, or None"):
            explain(model, images, layer=[])


class TestMethods:
    def test_a_function_gets_what_its_parameters_name(self, model, images):
        seen = {}

        def everything(gradients, images, activations, gradients_of, *, power=2):
            seen.update(gradients=gradients, images=images, activations=activations, power=power)
            seen["again"] = gradients_of(images)
            return (activations * gradients).sum(1) ** power

        found = explain(model, images, method=everything, layer="blocks.0", target=1)
        activations, gradients, _ = plain_autograd(model, images, "blocks.0", lambda outputs: outputs[:, 1])
        torch.testing.assert_close(seen["activations"], activations, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(seen["gradients"], gradients, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(seen["again"], gradients, rtol=1e-10, atol=1e-14)
        assert torch.equal(seen["images"], images)
        assert seen["power"] == 2
        assert found.method == "everything"
        torch.testing.assert_close(found.maps, (activations * gradients).sum(1) ** 2, rtol=1e-9, atol=1e-14)

    def test_gradients_of_other_images_are_for_the_clean_images_class(self, model, images):
        asked = {}

        def spy(images, activations, gradients_of):
            asked["found"] = gradients_of(images.flip(-1))
            return activations.sum(1)

        classes = explain(model, images, method=spy, layer="blocks.0").classes
        expected = plain_autograd(
            model, images.flip(-1), "blocks.0", lambda outputs: outputs.gather(1, classes[:, None])[:, 0]
        )
        torch.testing.assert_close(asked["found"], expected[1], rtol=1e-10, atol=1e-14)

    def test_only_what_is_asked_for_is_made(self):
        model = Counting(settle(Residual()))
        fired = []
        model.net.head.register_full_backward_hook(lambda *_: fired.append("backward"))
        explain(model, pictures(), method=lambda activations: activations.mean(1), layer="net.blocks.0")
        assert fired == []
        assert model.batches == [2]

    def test_a_gradient_is_taken_once_for_all_methods_of_a_target(self):
        model = settle(Residual())
        fired = []
        model.head.register_full_backward_hook(lambda *_: fired.append("backward"))
        explain_methods(model, pictures(), ["gradcam", "layercam", "hirescam", "xgradcam"], layer="blocks.0")
        assert fired == ["backward"]

    def test_class_weights_by_name(self):
        model = settle(Plain())
        seen = []

        def spy(activations, class_weights):
            seen.append(class_weights)
            return activations.sum(1)

        explain(model, pictures(), layer="last", target=2, method=spy)
        torch.testing.assert_close(seen[0], model.head.weight[2].detach().expand(2, -1))

    def test_a_map_of_its_own_resolution_is_kept(self, model, images):
        found = explain(model, images, method=lambda images: images.abs().mean(1), layer="blocks.0")
        assert found.maps.shape == (5, 12, 12)

    def test_an_unknown_parameter_is_named_with_the_known_ones(self, model, images):
        def hungry(activations, attention):
            return activations.sum(1)

        with pytest.raises(
            MethodError, match=r"'hungry' has the parameter 'attention'.*activations"
        ) as caught:
            explain(model, images, method=hungry)
        assert one_line(caught)

    def test_a_function_without_inputs_is_refused(self, model, images):
        with pytest.raises(MethodError, match="takes no input") as caught:
            explain(model, images, method=lambda: torch.zeros(5, 6, 6))
        assert one_line(caught)

    @pytest.mark.parametrize(
        "function",
        [
            lambda activations: activations.sum(),
            lambda activations: activations.sum((1, 2, 3)),
            lambda activations: activations[:3].sum(1),
            lambda activations: activations.tolist(),
            lambda activations: None,
        ],
    )
    def test_what_is_no_map_an_image_is_refused_with_what_it_is(self, model, images, function, unchecked):
        with pytest.raises(MethodError, match=r"for 5 images; expected maps \[batch, \*grid\]") as caught:
            explain(model, images, method=function, layer="blocks.0")
        assert one_line(caught)

    @pytest.mark.parametrize("name", ["grad-cam", "GradCAM", "", "layercan", "gradcam "])
    def test_an_unknown_name_is_refused_with_the_known_ones(self, model, images, name):
        with pytest.raises(MethodError, match=r"is unknown; (did you mean|there are)") as caught:
            explain(model, images, method=name)
        assert one_line(caught)

    def test_an_unknown_method_is_said_before_anything_runs(self):
        model = Counting(settle(Residual()))
        with pytest.raises(MethodError):
            explain_methods(model, pictures(), ["gradcam", "nonsense"])
        assert model.batches == []

    def test_a_method_that_is_a_value(self, model, images):
        found = explain(model, images, method=METHODS["hirescam"], layer="blocks.0")
        assert torch.equal(found.maps, explain(model, images, method="hirescam", layer="blocks.0").maps)
        own = Method("own", lambda activations: activations.mean(1), "other", "F", "here", "a mean")
        assert explain(model, images, method=own, layer="blocks.0").method == "own"

    def test_half_and_integer_maps_become_float32(self, unchecked):
        model = settle(Residual())
        for cast in (torch.float16, torch.int64):
            found = explain(
                model, pictures(), layer="stem", method=lambda activations, c=cast: activations.sum(1).to(c)
            )
            assert found.maps.dtype == torch.float32


class TestRefusals:
    @pytest.mark.parametrize(
        "images",
        [
            "cat.jpg", ["cat.jpg"], None, np.zeros((1, 3, 8, 8), dtype=np.float32), [torch.zeros(3, 8, 8)],
            Image.new("RGB", (8, 8)),
        ],
    )  # fmt: skip
    def test_a_plain_module_takes_a_tensor(self, model, images):
        with pytest.raises(
            UsageError, match=r"a plain nn.Module takes a float tensor.*whycam.load"
        ) as caught:
            explain(model, images)
        assert one_line(caught)

    @pytest.mark.parametrize("shape", [(), (3,), (3, 8), (0, 3, 8, 8), (1, 1, 3, 2, 8, 8)])
    def test_images_of_another_shape_are_refused_with_it(self, model, shape):
        with pytest.raises(UsageError, match=r"images are \[.*expected \[batch, channels, \*size\]"):
            explain(model, torch.zeros(shape))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
    def test_images_of_integers_are_refused(self, model, dtype):
        with pytest.raises(UsageError, match=f"images are {dtype}; expected floats"):
            explain(model, torch.zeros(1, 3, 8, 8, dtype=dtype))

    def test_no_targets_and_no_methods_are_refused(self, model, images):
        with pytest.raises(UsageError, match="no targets; give at least one"):
            explain_targets(model, images, [])
        with pytest.raises(UsageError, match="no methods; give at least one"):
            explain_methods(model, images, [])

    @pytest.mark.parametrize(
        "target", [CLASSES, -1, [0, 1, 2, 3, CLASSES], Probability(CLASSES), Contrast(0, CLASSES)]
    )
    def test_a_class_out_of_range_is_one_line(self, model, images, target):
        with pytest.raises(
            TargetError, match=f"the model has {CLASSES} classes, 0 to {CLASSES - 1}"
        ) as caught:
            explain(model, images, target=target)
        assert one_line(caught)

    def test_a_module_that_is_not_the_models(self, model, images):
        with pytest.raises(LayerError, match="is no part of the model"):
            explain(model, images, layer=nn.Conv2d(3, 8, 3))


@dataclass(frozen=True)
class Ready:
    """What a loaded model prepares."""

    images: torch.Tensor
    pictures: list[Image.Image]
    geometries: list[CropGeometry]
    names: list[str]


class Loaded:
    """A model that reads its own pictures."""

    def __init__(self, module):
        self.module = module
        self.class_names = ["cat", "dog", "owl", "fox", "hen"]

    def prepare(self, sources):
        images = torch.stack([pictures(1, seed=source)[0] for source in sources])
        return Ready(
            images,
            [Image.new("RGB", (24, 24), (40 * source, 0, 0)) for source in sources],
            [CropGeometry((24, 24), (0.0, 0.0, 24.0, 24.0)) for _ in sources],
            [f"picture {source}" for source in sources],
        )


class TestPreparing:
    def test_a_model_that_prepares_its_images(self):
        loaded = Loaded(settle(Residual()))
        assert isinstance(loaded, Preparing)
        found = explain(loaded, [1, 2, 3], layer="blocks.0", batch_size=2)
        images = torch.cat([pictures(1, seed=source) for source in (1, 2, 3)])
        assert torch.equal(found.maps, explain(loaded.module, images, layer="blocks.0", batch_size=2).maps)
        assert found.names == ("picture 1", "picture 2", "picture 3")
        assert found.class_names == ("cat", "dog", "owl", "fox", "hen")
        assert [picture.getpixel((0, 0))[0] for picture in found.pictures] == [40, 80, 120]
        assert found.geometries == (CropGeometry((24, 24), (0.0, 0.0, 24.0, 24.0)),) * 3
        assert torch.equal(found.images, images)

    def test_every_target_and_method_gets_the_pictures(self):
        loaded = Loaded(settle(Transformer((3, 3))))
        for found in explain_targets(loaded, [1, 2], [0, 1]) + explain_methods(
            loaded, [1, 2], ["gradcam", "fem"]
        ):
            assert found.names == ("picture 1", "picture 2")
            assert len(found.pictures) == 2

    def test_a_model_without_class_names(self):
        loaded = Loaded(settle(Residual()))
        loaded.class_names = None
        assert explain(loaded, [1]).class_names is None
