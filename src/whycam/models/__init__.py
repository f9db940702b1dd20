"""From a model reference to a network that can be explained: weights, preprocessing, class names."""

from whycam.models.loaded import LoadedModel, PreparedImages, Provenance
from whycam.models.preprocessing import Preprocessing
from whycam.models.references import load

__all__ = ["LoadedModel", "PreparedImages", "Preprocessing", "Provenance", "load"]
