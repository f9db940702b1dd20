"""Heatmaps of fixed images while another library trains the network.

``whycam.callbacks.lightning`` and ``whycam.callbacks.transformers`` have a ``HeatmapCallback`` each. Nothing
of those libraries, nor of the loggers, is imported here.
"""

from whycam.callbacks.schedule import Epochs, Steps, Validations

__all__ = ["Epochs", "Steps", "Validations"]
