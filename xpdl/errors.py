"""The errors xpdl raises; each message names what came, what was expected and the cure."""


class BackendError(RuntimeError):
    """An array library cannot be used here: the message says which of its needs is missing."""


class MixedArraysError(TypeError):
    """Arrays of different libraries, or on different devices, met in one computation."""


class ShapeError(ValueError):
    """A shape or size does not fit."""


class DTypeError(TypeError):
    """An array has a dtype the operation cannot compute with."""


class LabelError(ValueError):
    """A class label lies outside the classes."""


class OutOfMemoryError(MemoryError):
    """A step needs more memory than the device has free; the message says how much, and what batch size would fit."""


class GradientCheckError(AssertionError):
    """A backward pass disagrees with the numerical gradient."""
