"""The errors that the tools report in one line."""


class InputError(ValueError):
    """What the user gave (a file, a key, an argument) cannot be used; the tools exit with status 2."""


class CheckpointError(InputError):
    """A checkpoint is missing, damaged, asks to run code, or does not fit the model."""


class NonFiniteError(FloatingPointError):
    """Training met a value that is not finite; the tools exit with status 1 and save nothing more."""


class NonFiniteLossError(NonFiniteError):
    """A loss is NaN or infinite."""


class NonFiniteWeightsError(NonFiniteError):
    """A model that was about to be saved holds a parameter that is not finite."""
