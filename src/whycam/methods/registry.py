"""The registry: one line a method."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from typing import Literal

from whycam.errors import MethodError
from whycam.methods import (
    ablation,
    activation,
    attention,
    controls,
    extremal,
    gradient,
    layered,
    masking,
    paths,
    perturbation,
    pixel,
)
from whycam.methods.needs import NEEDS
from whycam.types import Map

Kind = Literal["gradient", "activation", "perturbation", "pixel", "attention", "layered", "control", "other"]
Explained = Literal["target", "difference"]
MethodFunction = Callable[..., Map]


@dataclass(frozen=True)
class Method:
    """A registered method: ``function`` gives maps from what its parameters' names ask for.

    ``cost`` counts whole forwards F and backwards B, backwards from the score to the layer (s-backward) and
    forwards of what follows the layer (s). A control needs no forward itself; the one that is counted gives
    the prediction and the score. ``explained`` is what the score is: the target's own, or its difference to
    the classes that the model finds most like it (``Finer``).
    """

    name: str
    function: MethodFunction
    kind: Kind
    cost: str
    source: str
    summary: str
    explained: Explained = "target"

    @cached_property
    def needs(self) -> frozenset[str]:
        """The inputs that the function asks for by name; raises MethodError on an unknown one."""
        parameters = inspect.signature(self.function).parameters.values()
        wanted = {p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD,)}
        unknown = sorted(wanted - NEEDS.keys())
        if unknown:
            raise MethodError(
                f"method {self.name!r} has the parameter {unknown[0]!r}, which nothing provides; "
                f"use {', '.join(sorted(NEEDS))}, or give it a default"
            )
        if not wanted:
            raise MethodError(
                f"method {self.name!r} takes no input; name its parameters after what it needs: "
                f"{', '.join(sorted(NEEDS))}"
            )
        return frozenset(wanted)

    @property
    def takes_layer(self) -> bool:
        """Whether it looks at a layer; without one, its map is on the image's, its own or attention's grid."""
        return any(NEEDS[need].of_layer for need in self.needs)

    @property
    def runs_suffix(self) -> bool:
        """Whether the method runs what follows the layer again, which the forward must be recorded for."""
        return any(NEEDS[need].of_suffix for need in self.needs)

    @property
    def takes_attention(self) -> bool:
        """Whether the method looks at the model's self-attentions, whose grid its map is on."""
        return any(NEEDS[need].of_attention for need in self.needs)

    @property
    def takes_all_layers_at_once(self) -> bool:
        """Whether one call gives the map of several layers, which is then not fused."""
        return any(NEEDS[need].of_all_layers for need in self.needs)

    @property
    def works_on(self) -> str:
        """Which models have what the method asks for: "any", "ViT", or "GAP head"."""
        if self.kind == "attention":
            return "ViT"
        return "GAP head" if "class_weights" in self.needs else "any"

    @cached_property
    def parameters(self) -> dict[str, object]:
        """The options in force: parameters with their defaults, such as ``samples`` and ``seed``."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}


F_ONLY = "F"
F_AND_BACK = "F + s-backward"
F_AND_CURVATURE = "F + 3 s-backward"
TWO_F_AND_B = "2 F + B"

_BUILT_IN = (
    Method("cam", activation.cam, "activation", "2 F", "Zhou 2016", "a GAP head's own class weights"),
    Method("gradcam", gradient.gradcam, "gradient", F_AND_BACK, "Selvaraju 2017", "channels by mean gradient"),
    Method("gradcam++", gradient.gradcam_plus_plus, "gradient", F_AND_BACK, "Chattopadhay 2018", "channels by weighted positive gradients; several objects of a class"),
    Method("smoothgradcam++", gradient.smooth_gradcam_plus_plus, "gradient", "17 F + 16 s-backward", "Omeiza 2019", "Grad-CAM++ with derivatives averaged over noisy copies"),
    Method("xgradcam", gradient.xgradcam, "gradient", F_AND_BACK, "Fu 2020", "channels by their share of the score"),
    Method("hirescam", gradient.hirescam, "gradient", F_AND_BACK, "Draelos 2020", "every position by its own gradient; sums to the logit on linear heads"),
    Method("gradcam-elementwise", gradient.gradcam_elementwise, "gradient", F_AND_BACK, "practice", "only products of gradient and activation above 0"),
    Method("layercam", gradient.layercam, "gradient", F_AND_BACK, "Jiang 2021", "every position by its positive gradient; good on shallow layers too"),
    Method("shapleycam", gradient.shapleycam, "gradient", F_AND_CURVATURE, "Cai 2025", "channels by mean gradient less half the curvature along the activations"),
    Method("finercam", gradient.gradcam, "gradient", F_AND_BACK, "Zhang 2025", "Grad-CAM of what sets the class apart from the classes most like it", explained="difference"),
    Method("eigencam", activation.eigencam, "activation", F_ONLY, "Muhammad 2020", "first principal direction; blind to the class"),
    Method("eigengradcam", activation.eigengradcam, "gradient", F_AND_BACK, "practice", "first principal direction of gradient x activation"),
    Method("segeigencam", activation.segeigencam, "gradient", F_AND_BACK, "Chung 2025", "first principal direction of |gradient| x activation; for segmentation"),
    Method("kpcacam", activation.kpcacam, "activation", F_ONLY, "Karmani 2024", "first kernel principal direction; blind to the class"),
    Method("fem", activation.fem, "activation", F_ONLY, "Fuad 2020", "rare strong activations; blind to the class"),
    Method("dff", activation.dff, "gradient", F_AND_BACK, "Collins 2018", "the concept of a non-negative factorisation that adds most to the score"),
    Method("refinecam", layered.refinecam, "layered", F_AND_BACK, "Domeniconi 2026", "the product of Grad-CAM++ over the depth of the network; high resolution"),
    Method("fullgrad", layered.fullgrad, "layered", TWO_F_AND_B, "Srinivas 2019", "what the input and every layer's bias add to the score, as magnitudes"),
    Method("rollout", attention.rollout, "attention", "2 F", "Abnar 2020", "attention multiplied through all blocks; blind to the class"),
    Method("attentiongradient", attention.attention_gradient, "attention", "2 F + s-backward", "Barkan 2021", "the last block's attention by its positive gradient"),
    Method("chefer", attention.chefer, "attention", TWO_F_AND_B, "Chefer 2021", "attention by its positive gradient, through all blocks"),
    Method("legrad", attention.legrad, "attention", "2 F + B + a tail a block", "Bousselham 2024", "each block's own score's positive gradient at its attention, summed"),
    Method("scorecam", masking.scorecam, "perturbation", "F + C F", "Wang 2020", "channels by the score of the image under each one's mask"),
    Method("sscam", masking.sscam, "perturbation", "F + 35 C F", "Wang 2020", "Score-CAM with scores averaged over noisy masks"),
    Method("iscam", masking.iscam, "perturbation", "F + 10 C F", "Naidu 2020", "Score-CAM with scores integrated over growing masks"),
    Method("opticam", masking.opticam, "perturbation", "F + 100 (F + B)", "Zhang 2023", "the mix of channels whose mask keeps the score highest"),
    Method("occlusion", perturbation.occlusion, "perturbation", "F + 169 F", "Zeiler 2014", "the score's drop under a patch that slides over the image"),
    Method("rise", perturbation.rise, "perturbation", "F + 4000 F", "Petsiuk 2018", "the score under random masks that keep a pixel, against the average"),
    Method("sobol", perturbation.sobol, "perturbation", "F + 2080 F", "Fel 2021", "each cell's share of the score's variance, with interactions"),
    Method("extremal", extremal.extremal, "perturbation", "F + 800 (F + B)", "Fong 2019", "the smooth mask of a tenth of the image that keeps the score highest"),
    Method("gradient", pixel.gradient, "pixel", TWO_F_AND_B, "Simonyan 2013", "each pixel's gradient, summed over the bands"),
    Method("inputxgradient", pixel.input_x_gradient, "pixel", TWO_F_AND_B, "Shrikumar 2016", "each pixel times its gradient"),
    Method("smoothgrad", pixel.smoothgrad, "pixel", "51 F + 50 B", "Smilkov 2017", "the gradient averaged over noisy copies"),
    Method("vargrad", pixel.vargrad, "pixel", "51 F + 50 B", "Adebayo 2018", "the gradient's variance over noisy copies; never negative"),
    Method("integrated", paths.integrated, "pixel", "51 F + 50 B", "Sundararajan 2017", "the gradient along the line from a baseline; sums to the rise in score"),
    Method("expected", paths.expected, "pixel", "101 F + 100 B", "Erion 2021", "the gradient along the lines from many references"),
    Method("blurig", paths.blurig, "pixel", "51 F + 50 B", "Xu 2020", "the gradient along the way from blurred to sharp"),
    Method("guidedig", paths.guidedig, "pixel", "202 F + 201 B", "Kapishnikov 2021", "the gradient along a path that avoids large gradients"),
    Method("guidedbackprop", pixel.guidedbackprop, "pixel", TWO_F_AND_B, "Springenberg 2015", "only positive gradients into each activation; hardly depends on the upper weights"),
    Method("deconvnet", pixel.deconvnet, "pixel", TWO_F_AND_B, "Zeiler 2014", "only positive gradients past each activation, whatever its input"),
    Method("guidedgradcam", pixel.guidedgradcam, "pixel", "2 F + B + s-backward", "Selvaraju 2017", "guided backprop where Grad-CAM is positive"),
    Method("ablationcam", ablation.ablationcam, "perturbation", "F + C s", "Desai 2020", "channels by the share of the score lost without them"),
    Method("liftcam", ablation.liftcam, "perturbation", "F + 2 s + s-backward", "Jung 2021", "channels by DeepLIFT's contributions, which sum to the score"),
    Method("reciprocam", ablation.reciprocam, "perturbation", "F + Z s", "Byun 2022", "the score with one position and its neighbours kept"),
    Method("random", controls.random_map, "control", F_ONLY, "control", "uniform noise"),
    Method("centre", controls.centre, "control", F_ONLY, "control", "a Gaussian in the middle"),
    Method("edges", controls.edges, "control", F_ONLY, "control", "the image's own edges"),
)  # fmt: skip

METHODS: Mapping[str, Method] = {method.name: method for method in _BUILT_IN}


def _installed(name: str) -> Method | None:
    """Load a method that another package registers under the entry point group ``whycam.methods``."""
    for point in entry_points(group="whycam.methods", name=name):
        loaded = point.load()
        if isinstance(loaded, Method):
            return loaded
        return Method(
            name, loaded, "other", "unknown", point.value, (inspect.getdoc(loaded) or "").split("\n")[0]
        )
    return None


def find_method(method: str | MethodFunction | Method) -> Method:
    """Return the method of that name, or wrap a function whose parameters' names say what it needs."""
    if isinstance(method, Method):
        return method
    if callable(method):
        name = getattr(method, "__name__", type(method).__name__)
        known = next((m for m in _BUILT_IN if m.function is method), None)
        return known or Method(name, method, "other", "unknown", "given by the caller", "")
    found = METHODS.get(method) or _installed(method)
    if found is None:
        near = difflib.get_close_matches(method, METHODS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(METHODS)}."
        raise MethodError(f"method {method!r} is unknown; {hint} (whycam methods lists them)")
    return found
