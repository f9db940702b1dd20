"""What follows a layer, run alone: the same as whole forwards, without running what precedes the layer."""

import copy
import gc
import warnings
import weakref

import pytest
import torch
import torch.nn.functional as F
from tests.engine import networks
from torch import nn

from whycam import explain
from whycam.engine import Inputs, address_of, capture, explaining
from whycam.engine.recording import Key, known_plan
from whycam.engine.suffix import Suffix
from whycam.errors import LayerError


class Around(nn.Module):
    """A skip around the layer, read by a function and by a part after it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, networks.CLASSES)

    def forward(self, images):
        x = self.stem(images)
        x = F.relu(self.layer(x)) + x * self.gate(x).sigmoid()
        return self.head(x.mean((2, 3)) + images.mean((1, 2, 3))[:, None])


class Windows(nn.Module):
    """Folds windows into the batch before the layer; a kept tensor holds four rows an image.

    ``image_first`` or each window of all images together.
    """

    def __init__(self, image_first=True):
        super().__init__()
        self.image_first = image_first
        self.stem = nn.Conv2d(3, 8, 1)
        self.inside = nn.Conv2d(8, 8, 3, padding=1)
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, networks.CLASSES)

    def forward(self, images):
        x = self.stem(images)
        quarters = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        folded = torch.stack(quarters, 1).flatten(0, 1) if self.image_first else torch.cat(quarters)
        inner = self.inside(folded)
        y = self.layer(x).sigmoid()
        size = (-1, 4) if self.image_first else (4, -1)
        inner = inner.unflatten(0, size).sum(1 if self.image_first else 0)
        return self.head(y.mean((2, 3)) * inner.mean((2, 3)))


class TimeFirst(nn.Module):
    """Keeps the batch on the second axis of what precedes the layer, and a table that has no batch."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.turn = nn.Identity()
        self.table = nn.Embedding(7, 8)
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, networks.CLASSES)

    def forward(self, images):
        x = self.stem(images)
        turned = self.turn(x.flatten(2).permute(2, 0, 1))
        table = self.table(torch.arange(7, device=images.device)).sum(0)
        y = self.layer(x).sigmoid().mean((2, 3))
        return self.head(y * turned.sigmoid().mean(0) + table)


class WritesBefore(nn.Module):
    """Adds into what a part before the layer returned, as a residual stream does."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, networks.CLASSES)

    def forward(self, images):
        x = self.stem(images)
        x += 1.0
        y = self.layer(x)
        x += y.relu_()
        return self.head(x.mean((2, 3)))


class Holder:
    """An object that hides its tensor."""

    def __init__(self, value):
        self.value = value


class Wraps(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 8, 1)

    def forward(self, images):
        return Holder(self.inner(images))


class Hidden(nn.Module):
    """A part before the layer returns an object of its own."""

    def __init__(self):
        super().__init__()
        self.wraps = Wraps()
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, networks.CLASSES)

    def forward(self, images):
        x = self.wraps(images).value
        return self.head((self.layer(x).sigmoid() + x).mean((2, 3)))


class Remembers(nn.Module):
    """Hands a tensor past the modules, in an attribute: run alone, it would be an old one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.inner = nn.Sequential(self.first)
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, networks.CLASSES)
        self.first.register_forward_hook(self._note)

    def _note(self, part, inputs, output):
        self.noted = output.mean((1, 2, 3))

    def forward(self, images):
        y = self.layer(self.inner(images))
        return self.head(y.sigmoid().mean((2, 3)) * self.noted[:, None])


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, networks.CLASSES)

    def forward(self, pixel_values, age):
        x = self.layer(self.stem(pixel_values)).sigmoid().mean((2, 3))
        return {"logits": self.head(x * age[:, None]), "features": x}


NETWORKS = {
    "plain": (networks.Plain, "body_norm"),
    "in place": (lambda: networks.Plain(inplace=True), "body_norm"),
    "in place after the layer": (networks.InPlace, "body"),
    "in place before the layer": (WritesBefore, "layer"),
    "second call": (networks.Repeated, "relu#2"),
    "last call": (networks.Repeated, "relu#3"),
    "branches": (networks.Branches, "right"),
    "first branch": (networks.Branches, "left"),
    "around": (Around, "layer"),
    "tuple": (lambda: networks.InContainer("tuple"), "layer"),
    "dict": (lambda: networks.InContainer("dict"), "layer"),
    "named tuple": (lambda: networks.InContainer("named tuple"), "layer"),
    "residual": (networks.Residual, "blocks.0.second"),
    "block": (networks.Residual, "blocks.1"),
    "tokens": (lambda: networks.Transformer((3, 3), prefix=2), "blocks.1"),
    "attention": (lambda: networks.Transformer((3, 3), pool="mean"), "blocks.1.norm2"),
    "windows": (Windows, "layer"),
    "windows, one after the other": (lambda: Windows(image_first=False), "layer"),
    "time first": (TimeFirst, "layer"),
    "hidden": (Hidden, "layer"),
    "dict out": (lambda: networks.Returning(lambda y: {"logits": y}), "net.body"),
}


def suffix_of(live, images, layer, record=True):
    inputs = Inputs.of(images)
    found = capture(live, inputs, [address_of(live, layer)], suffixes=record)
    recording = found.recordings[0] if record else None
    return Suffix(live, inputs, found.layers[0], found.outputs, recording)


def changed(suffix, rows, seed=7):
    generator = torch.Generator().manual_seed(seed)
    clean = suffix.layer.activations()[rows]
    return clean * torch.rand(clean.shape[:2], generator=generator).view(*clean.shape[:2], 1, 1).to(
        clean.dtype
    )


def flat(outputs):
    return outputs if isinstance(outputs, torch.Tensor) else outputs["logits"]


APART = [("around", 1, False), ("windows", 2, False), ("hidden", 3, False), ("tokens", 2, True)]


@pytest.mark.parametrize(
    ("name", "batch", "record"), [*((name, batch, True) for name in NETWORKS for batch in (1, 3)), *APART]
)
def test_what_follows_a_layer_alone_gives_what_whole_forwards_give(name, batch, record):
    build, layer = NETWORKS[name]
    model = networks.settle(build()).double()
    images = networks.pictures(batch, dtype=torch.float64)
    rows = torch.tensor([0, batch - 1, 0, batch // 2, batch - 1])
    with explaining(model) as live:
        for _ in range(2):  # the second time by the plan that is known
            suffix = suffix_of(live, images, layer, record)
            variants = changed(suffix, rows)
            before = variants.clone()
            for these in (slice(0, 5), slice(0, 1), slice(2, 3)):
                with torch.no_grad():
                    alone = flat(suffix(rows[these], variants[these]))
                    whole = flat(suffix.whole(rows[these], variants[these]))
                torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-12)
            assert suffix.reason == ""
            assert torch.equal(variants, before)
            assert float(flat(suffix(rows, variants)).std(0).max()) > 0


def test_nothing_that_precedes_the_layer_runs_again():
    model = networks.settle(networks.Residual(blocks=3))
    ran = []
    for name in (
        "stem",
        "blocks.0",
        "blocks.0.first",
        "blocks.1.first",
        "blocks.1.second",
        "blocks.2",
        "head",
    ):
        model.get_submodule(name).forward = counted(ran, name, model.get_submodule(name).forward)
    images = networks.pictures(2)
    with explaining(model) as live, torch.no_grad():
        suffix_of(live, images, "blocks.1.second").settle()
        ran.clear()
        suffix = suffix_of(live, images, "blocks.1.second")
        assert ran.count("stem") == 1
        ran.clear()
        rows = torch.tensor([0, 1, 1])
        suffix(rows, changed(suffix, rows))
    assert ran == ["blocks.2", "head"]


def counted(ran, name, forward):
    def count(*args):
        ran.append(name)
        return forward(*args)

    return count


def test_several_inputs_go_along_with_their_images():
    model = networks.settle(TwoInputs()).double()
    inputs = {"pixel_values": networks.pictures(3, dtype=torch.float64), "age": torch.tensor([1.0, 2.0, 3.0])}
    rows = torch.tensor([2, 0, 2, 1])
    with explaining(model) as live, torch.no_grad():
        suffix = suffix_of(live, {**inputs, "age": inputs["age"].double()}, "layer")
        variants = changed(suffix, rows)
        alone, whole = suffix(rows, variants), suffix.whole(rows, variants)
        assert suffix.reason == ""
    torch.testing.assert_close(alone["logits"], whole["logits"], rtol=1e-12, atol=0)
    torch.testing.assert_close(alone["features"], whole["features"], rtol=1e-12, atol=0)


def test_a_replay_that_would_be_wrong_is_found_out_and_whole_forwards_are_run():
    model = networks.settle(Remembers()).double()
    images = networks.pictures(2, dtype=torch.float64)
    rows = torch.tensor([1, 0, 1])
    with explaining(model) as live, torch.no_grad():
        suffix = suffix_of(live, images, "layer")
        variants = changed(suffix, rows)
        with pytest.warns(RuntimeWarning, match=r"'layer' can't be run alone .* whole forwards") as caught:
            found = suffix(rows, variants)
        assert "\n" not in str(caught[0].message)
        assert suffix.reason
        expected = model.head(
            variants.sigmoid().mean((2, 3)) * model.first(images[rows]).mean((1, 2, 3))[:, None]
        )
        torch.testing.assert_close(found, expected)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            suffix_of(live, images, "layer").settle()  # said once


def test_a_layer_without_influence_is_run_in_whole_forwards():
    model = networks.settle(networks.Plain())
    with torch.no_grad():
        model.head.weight.zero_()
    with explaining(model) as live:
        suffix = suffix_of(live, networks.pictures(), "body")
        with pytest.warns(RuntimeWarning, match="hardly moves the outputs"):
            suffix.settle()


def test_another_way_through_the_model_is_noticed_later():
    model = networks.settle(networks.Residual(blocks=3)).double()
    images = networks.pictures(2, dtype=torch.float64)
    rows = torch.tensor([0, 1])
    with explaining(model) as live, torch.no_grad():
        suffix = suffix_of(live, images, "blocks.2.second")
        suffix.settle()
        first, second = model.blocks[0], model.blocks[1]
        model.blocks[0], model.blocks[1] = second, first
        model.blocks.forward = lambda x: model.blocks[2](model.blocks[0](model.blocks[1](x)))
        variants = changed(suffix, rows)
        with pytest.warns(RuntimeWarning, match="was called where"):
            found = suffix(rows, variants)
        torch.testing.assert_close(found, suffix.whole(rows, variants))


@pytest.mark.parametrize("layer", ["blocks.1", "blocks.1.second"])
def test_an_error_in_the_middle_leaves_the_model_as_it_was(layer):
    model = networks.settle(networks.Residual(blocks=3))
    before = [(dict(part.__dict__), len(part._forward_hooks)) for part in model.modules()]
    rows = torch.tensor([0, 0])
    with explaining(model) as live, torch.no_grad():
        suffix = suffix_of(live, networks.pictures(1), layer)
        suffix.settle()
        head = model.head.forward
        model.head.forward = failing
        with pytest.raises(ZeroDivisionError):
            suffix(rows, changed(suffix, rows))
        assert model.head.forward is failing
        del model.head.forward
        assert model.head.forward == head
    for part, (attributes, hooks) in zip(model.modules(), before, strict=True):
        assert "forward" not in part.__dict__
        assert part.__dict__.keys() == attributes.keys()
        assert len(part._forward_hooks) == hooks
        assert not part._forward_pre_hooks


def failing(*args):
    raise ZeroDivisionError("in the middle")


def test_a_forward_that_was_set_on_a_part_is_put_back():
    model = networks.settle(networks.Plain())
    own = model.stem.forward
    model.stem.forward = own
    with explaining(model) as live:
        suffix = suffix_of(live, networks.pictures(1), "body")
        suffix(torch.tensor([0, 0]), changed(suffix, torch.tensor([0, 0])))
        assert suffix.reason == ""
    assert model.stem.__dict__["forward"] is own


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model = networks.settle(networks.Plain()).to(dtype)
    rows = torch.tensor([1, 0, 1])
    with explaining(model) as live, torch.no_grad():
        suffix = suffix_of(live, networks.pictures(2, dtype=dtype), "body_norm")
        variants = changed(suffix, rows)
        assert variants.dtype == torch.float32
        torch.testing.assert_close(suffix(rows, variants), suffix.whole(rows, variants), rtol=0.05, atol=0.05)
        assert suffix.reason == ""


def test_autocast_has_a_plan_of_its_own():
    model = networks.settle(networks.Plain())
    images, rows = networks.pictures(2), torch.tensor([1, 0, 1])
    with explaining(model) as live, torch.no_grad():
        suffix_of(live, images, "body").settle()
        with torch.autocast("cpu", torch.bfloat16):
            suffix = suffix_of(live, images, "body")
            variants = changed(suffix, rows)
            found = suffix(rows, variants)
            assert suffix.reason == ""
            assert found.dtype == torch.bfloat16
            torch.testing.assert_close(found, suffix.whole(rows, variants), rtol=0.05, atol=0.05)
        keys = {Key.of("body", images)}
        with torch.autocast("cpu", torch.bfloat16):
            keys.add(Key.of("body", images))
        assert len(keys) == 2
        assert all(known_plan(live, key) is not None for key in keys)


@pytest.mark.parametrize("name", ["plain", "in place after the layer", "tokens", "around", "windows"])
def test_autograd_leads_from_the_outputs_to_the_variants(name):
    build, layer = NETWORKS[name]
    model = networks.settle(build()).double()
    rows = torch.tensor([1, 0, 1])
    with explaining(model) as live:
        suffix = suffix_of(live, networks.pictures(2, dtype=torch.float64), layer)
        leaf = changed(suffix, rows).requires_grad_()
        gradients = []
        for run in (suffix, suffix.whole):
            with torch.enable_grad():
                outputs = run(rows, leaf, grad=True)
            gradients.append(torch.autograd.grad(outputs.square().sum(), leaf)[0])
        assert suffix.reason == ""
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_known_of_a_model_does_not_keep_it_alive():
    model = networks.settle(networks.Plain())
    with explaining(model) as live:
        suffix = suffix_of(live, networks.pictures(1), "body")
        suffix.settle()
    gone = weakref.ref(model)
    del model, live, suffix
    gc.collect()
    assert gone() is None


def test_only_what_is_read_is_kept_the_next_time():
    model = networks.settle(Around())
    images = networks.pictures(1)
    with explaining(model) as live:
        suffix_of(live, images, "layer").settle()
        found = capture(live, images, [address_of(live, "layer")], suffixes=True)
    kept = {step.path: step.output.untyped_storage().nbytes() for step in found.recordings[0].steps}
    assert kept["stem"] == 8 * 12 * 12 * 4
    assert kept["layer"] == 4


def test_a_layer_that_folds_the_batch_is_refused_as_for_every_method():
    model = networks.settle(Windows())
    with explaining(model) as live, pytest.raises(LayerError, match="folds the batch"):
        suffix_of(live, networks.pictures(2), "inside")


class SigmoidInPlace(nn.Module):
    """Writes into what it is given."""

    def forward(self, values):
        return values.sigmoid_()


@pytest.mark.parametrize("method", ["ablationcam", "reciprocam", "liftcam"])
def test_a_part_that_was_changed_for_one_that_works_in_place_writes_into_no_variant(method):
    images = networks.pictures(2)
    model = networks.settle(nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), networks.Mean(), nn.Linear(8, 5)))
    explain(model, images, method=method, layer="0", target=1)
    model[1] = SigmoidInPlace()
    expected = explain(copy.deepcopy(model), images, method=method, layer="0", target=1)  # nothing known
    found = explain(model, images, method=method, layer="0", target=1)
    torch.testing.assert_close(found.maps, expected.maps)


@pytest.mark.parametrize("image_first", [True, False])
def test_what_was_proven_on_plain_pictures_is_not_relied_on_for_others(image_first):
    model, images = networks.settle(Windows(image_first)), networks.pictures(2)
    expected = explain(copy.deepcopy(model), images, method="ablationcam", layer="layer", target=1)
    explain(model, torch.zeros_like(images), method="ablationcam", layer="layer", target=1)
    found = explain(model, images, method="ablationcam", layer="layer", target=1)
    torch.testing.assert_close(found.maps, expected.maps)
