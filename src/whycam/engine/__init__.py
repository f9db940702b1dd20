"""The only room with hooks and autograd: captures, the layer choice, grids, the model's state."""

from whycam.engine.capture import Address, Capture, CapturedLayer, address_of, capture
from whycam.engine.inputs import Inputs
from whycam.engine.layers import Candidate, LayerChoice, choose_layer, find_layer
from whycam.engine.session import explaining
from whycam.engine.stages import STAGES, StageChoice, stages_of

__all__ = [
    "STAGES",
    "Address",
    "Candidate",
    "Capture",
    "CapturedLayer",
    "Inputs",
    "LayerChoice",
    "StageChoice",
    "address_of",
    "capture",
    "choose_layer",
    "explaining",
    "find_layer",
    "stages_of",
]
