# ruff: noqa: E501 - one line a method
"""What each method is called in a paper, what it does in one sentence, and whom to cite: a line a method.

The sentences say what the docstrings of ``whycam.methods`` say in formulas. Numbers that a user can set are
not in them: those are the run's, and stand behind the sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """A method in prose: its name, what it does (from its verb on; a control's noun), its sources' keys."""

    title: str
    does: str
    keys: tuple[str, ...] = ()


WORDS: Mapping[str, Words] = {
    "cam": Words("CAM", "sums the layer's channels, each weighted by the classifier's own weight of the explained class for it", ("zhou2016cam",)),
    "gradcam": Words("Grad-CAM", "sums the layer's channels, each weighted by the mean over all positions of the score's gradient with respect to it", ("selvaraju2017gradcam",)),
    "gradcam++": Words("Grad-CAM++", "sums the layer's channels, each weighted by a weighted sum of the positive part of the score's gradient with respect to it, where a position's weight is made of the gradient's second and third powers", ("chattopadhay2018gradcampp",)),
    "smoothgradcam++": Words("Smooth Grad-CAM++", "is Grad-CAM++ with the first three powers of the gradient averaged over copies of the image with Gaussian noise", ("omeiza2019smoothgradcampp",)),
    "xgradcam": Words("XGrad-CAM", "sums the layer's channels, each weighted by the mean of the score's gradient with respect to it, where a position counts as much as the channel is active there", ("fu2020xgradcam",)),
    "hirescam": Words("HiResCAM", "multiplies the layer's activations by the score's gradient, element by element, and sums over the channels", ("draelos2020hirescam",)),
    "gradcam-elementwise": Words("Element-wise Grad-CAM", "multiplies the layer's activations by the score's gradient, element by element, and sums the positive products over the channels"),
    "layercam": Words("LayerCAM", "multiplies the layer's activations by the positive part of the score's gradient, element by element, and sums over the channels", ("jiang2021layercam",)),
    "shapleycam": Words("ShapleyCAM", "sums the layer's channels, each weighted by the mean over all positions of the score's gradient with respect to it less half of the product of the score's second derivatives with the activations", ("cai2025shapleycam",)),
    "finercam": Words("Finer-CAM", "is Grad-CAM of the score of the class less a share of the mean score of those classes that score nearest to it", ("zhang2025finercam",)),
    "eigencam": Words("Eigen-CAM", "projects the layer's activations at each position on their first principal direction and does not depend on the explained class", ("muhammad2020eigencam",)),
    "eigengradcam": Words("Eigen-Grad-CAM", "projects the products of the layer's activations and the score's gradient at each position on their first principal direction, as Eigen-CAM does with the activations", ("muhammad2020eigencam",)),
    "segeigencam": Words("Seg-Eigen-CAM", "projects the products of the layer's activations and the magnitudes of the score's gradient at each position on their first principal direction, with the sign that makes the strongest position positive", ("chung2025segeigencam",)),
    "kpcacam": Words("KPCA-CAM", "projects the layer's activations at each position on their first kernel principal component and does not depend on the explained class", ("karmani2024kpcacam",)),
    "fem": Words("FEM", "sums over the layer's channels the channel's mean wherever the channel exceeds its mean by two standard deviations, and does not depend on the explained class", ("fuad2020fem",)),
    "dff": Words("Deep feature factorisation", "factorises the positive part of the layer's activations into non-negative concepts, each image on its own, and shows where the concept is that adds most to the score to first order", ("collins2018dff",)),
    "refinecam": Words("RefineCAM", "multiplies the maps of several layers of increasing depth, each rectified, divided by its maximum and resized to the finest grid", ("domeniconi2026refinecam",)),
    "fullgrad": Words("FullGrad", "adds up the magnitudes of the input times its gradient and of every bias times its gradient, each layer's rescaled to between 0 and 1", ("srinivas2019fullgrad",)),
    "rollout": Words("Attention rollout", "multiplies the attention matrices of all blocks, each averaged with the identity and normalised by row, and does not depend on the explained class", ("abnar2020rollout",)),
    "attentiongradient": Words("Gradient-weighted attention", "multiplies the last block's attention by its gradient and averages the positive part over the heads; it is the last block's term of Grad-SAM", ("barkan2021gradsam",)),
    "chefer": Words("Generic attention explainability", "adds up relevance over the blocks, each time multiplied by the mean over the heads of the positive part of attention times gradient", ("chefer2021generic",)),
    "legrad": Words("LeGrad", "sums over the blocks the positive part of the gradient at the block's attention of the score that the model's head gives that block's own output", ("bousselham2024legrad",)),
    "scorecam": Words("Score-CAM", "sums the layer's channels, weighted by a softmax over the scores of the image under each channel as a mask", ("wang2020scorecam",)),
    "sscam": Words("SS-CAM", "is Score-CAM with the scores averaged over masks with Gaussian noise", ("wang2020sscam",)),
    "iscam": Words("IS-CAM", "is Score-CAM with the scores averaged over masks that grow from nothing to the whole", ("naidu2020iscam",)),
    "opticam": Words("Opti-CAM", "sums the layer's channels with the weights, found by gradient ascent for each image, under whose map as a mask the image scores highest", ("zhang2023opticam",)),
    "occlusion": Words("Occlusion", "gives each pixel the mean drop of the score over the positions of a sliding patch that cover it", ("zeiler2014visualizing",)),
    "rise": Words("RISE", "gives each pixel the mean score under random masks that keep it, less the mean score under all masks", ("petsiuk2018rise",)),
    "sobol": Words("Sobol attribution", "gives each cell of a grid its total Sobol index, the share of the score's variance under quasi-random masks that the cell is involved in", ("fel2021sobol",)),
    "extremal": Words("Extremal perturbation", "finds by gradient ascent the smooth mask of a given area that keeps the score highest when the rest of the image is blurred", ("fong2019extremal",)),
    "gradient": Words("The gradient", "of the score with respect to each pixel was summed over the colour channels, with its sign", ("simonyan2013saliency",)),
    "inputxgradient": Words("Input times gradient", "multiplies each preprocessed pixel by the score's gradient with respect to it and sums over the colour channels", ("shrikumar2016notjust",)),
    "smoothgrad": Words("SmoothGrad", "averages the score's gradient with respect to each pixel over copies of the image with Gaussian noise", ("smilkov2017smoothgrad",)),
    "vargrad": Words("VarGrad", "takes the variance of the score's gradient with respect to each pixel over copies of the image with Gaussian noise", ("adebayo2018local",)),
    "integrated": Words("Integrated gradients", "integrates the score's gradient along the straight line from a baseline to the image and multiplies it by their difference", ("sundararajan2017integrated",)),
    "expected": Words("Expected gradients", "averages, over random places on the lines from reference images to the image, the score's gradient times the difference of image and reference", ("erion2021expected",)),
    "blurig": Words("Blur integrated gradients", "integrates the score's gradient along the path on which the image goes from blurred to sharp", ("xu2020blurig",)),
    "guidedig": Words("Guided integrated gradients", "integrates the score's gradient along a path from a baseline to the image that first moves the pixels with the smallest gradients", ("kapishnikov2021guidedig",)),
    "guidedbackprop": Words("Guided backpropagation", "takes the score's gradient with respect to each pixel, letting only positive gradients enter each activation function's derivative on the way back", ("springenberg2015striving",)),
    "deconvnet": Words("Deconvnet", "takes the score's gradient with respect to each pixel, passing only positive gradients back through each activation function whatever its input was", ("zeiler2014visualizing",)),
    "guidedgradcam": Words("Guided Grad-CAM", "multiplies guided backpropagation by the rectified, resized Grad-CAM map", ("selvaraju2017gradcam",)),
    "ablationcam": Words("Ablation-CAM", "sums the layer's channels, each weighted by the share of the score that is lost when the channel is set to zero", ("desai2020ablationcam",)),
    "liftcam": Words("LIFT-CAM", "sums the layer's channels, each weighted by its DeepLIFT contribution to the score against a layer of zeros", ("jung2021liftcam",)),
    "reciprocam": Words("Recipro-CAM", "gives each position the score when only that position of the layer and, in the shares of a Gaussian, its neighbours are kept, less the lowest such score", ("byun2022reciprocam", "byun2023vitreciprocam")),
    "random": Words("Random", "uniform noise"),
    "centre": Words("Centre", "a Gaussian in the middle of the image"),
    "edges": Words("Edges", "the gradient magnitude of the image's own brightness"),
}  # fmt: skip
"""By the names in ``whycam.methods.METHODS``."""

CONTROLS = ("random", "centre", "edges")
"""Methods that know nothing of the model and have no source."""

LIBRARIES: Mapping[str, str] = {
    "timm": "wightman2019timm",
    "torchvision": "torchvision2016",
    "hf": "wolf2020transformers",
    "open_clip": "ilharco2021openclip",
}
"""Whom to cite for an architecture, by what a model's reference begins with."""

PYTORCH, WHYCAM = "paszke2019pytorch", "whycam"
"""The keys of what every run is made with."""

SMOOTHINGS: Mapping[str, Words] = {
    "FlipAverage": Words("Flip average", "averaged over the image and its mirror image"),
    "NoiseAverage": Words("Noise average", "averaged over copies of the image with Gaussian noise", ("smilkov2017smoothgrad",)),
    "ScaleAverage": Words("Scale average", "averaged over copies of the image whose pixel values were multiplied by several factors"),
    "FirstComponent": Words("First component", "reduced to the first principal direction of the weighted channels in place of their sum"),
}  # fmt: skip
"""By the names of the smoothings in ``whycam.methods``; what was done to the maps."""


def title_of(method: str) -> str:
    """Return a method's name in prose; its own name for one of another package."""
    known = WORDS.get(method)
    return f"the method {method!r}" if known is None else known.title
