"""The exception tree. Every message says what was found, what was expected, and the mend."""


class WhycamError(Exception):
    """Base of every error that whycam raises on purpose; its text is one line, fit for a user."""


class UsageError(WhycamError):
    """The call itself is wrong: an unknown option, a clash of arguments, nothing to explain."""


class TargetError(WhycamError):
    """The target does not fit the outputs: wrong count, class out of range, scores of a wrong shape."""


class AbsentError(TargetError):
    """What the target speaks of is not in this image: no such box, no pixel of the class."""


class LayerError(WhycamError):
    """The layer does not exist, ran a wrong number of times, or gave nothing with a spatial layout."""


class EngineError(WhycamError):
    """The model cannot be explained as it is: scripted, inference tensors, no gradient, bad numbers."""


class MethodError(WhycamError):
    """The method is unknown, or the model lacks what it needs."""


class ModelError(WhycamError):
    """The model reference cannot be turned into a model."""


class WeightsError(ModelError):
    """The weights file is missing, unsafe, broken, or does not fit the model."""


class ImageError(WhycamError):
    """One image cannot be read; the run goes on without it."""


class RunError(WhycamError):
    """The run folder is missing, of another run, unwritable or not readable."""


class MissingExtraError(WhycamError):
    """An optional dependency is absent; the message names the extra that brings it."""
