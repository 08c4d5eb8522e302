"""Wrong arguments of every public function and constructor: a documented error that says what came."""

import inspect
import re
from contextlib import nullcontext as does_not_raise

import numpy as np
import pytest

import xpdl
from tests.inputs.arguments import CALLS, RECORDS
from xpdl import data, layers, metrics, models, search, training
from xpdl.backends.namespaces import is_array
from xpdl.data import augment
from xpdl.errors import BackendError, DTypeError, LabelError, MixedArraysError, ShapeError
from xpdl.integrations import pytorch

DOCUMENTED = (ShapeError, DTypeError, LabelError, MixedArraysError, BackendError, TypeError, ValueError, OSError)
NAMES = {call.name for call in CALLS}
CASES = [pytest.param(call, argument, id=f"{call.name}-{argument}") for call in CALLS for argument in call.kinds]
# these need no files or data sets
WITHOUT_FILES = [call for call in CALLS if not {"path", "normalize"} & set(call.kinds)]


def public_names():
    for module in (xpdl, data, augment, models, layers, metrics, training, search, pytorch):
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing) and not (inspect.isclass(thing) and issubclass(thing, BaseException)):
                yield thing.__name__


def test_every_public_name_is_in_the_table():
    assert set(public_names()) - RECORDS == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_argument_is_in_the_table(name):
    calls = [call for call in CALLS if call.name == name]
    listed = {argument for call in calls for argument in (*call.kinds, *call.free)}
    parameters = inspect.signature(calls[0].function).parameters.values()
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    assert named <= listed
    # others are those of **options
    assert named == listed or any(p.kind == p.VAR_KEYWORD for p in parameters)


@pytest.mark.parametrize("call", WITHOUT_FILES, ids=lambda call: call.name)
def test_valid_arguments_are_valid(call):
    """Or a wrong one would not be what fails."""
    with does_not_raise():
        call.function(**call.valid)


@pytest.mark.parametrize(("call", "argument"), CASES)
def test_wrong_argument_is_a_documented_error(call, argument):
    unclear = []
    for value in call.kinds[argument].wrong:
        try:
            call.function(**{**call.valid, argument: value})
        except DOCUMENTED as error:
            if not clear(str(error), call, argument, value):
                unclear.append(f"{value!r:.60}: {type(error).__name__}: {error}")
        except Exception as error:
            unclear.append(f"{value!r:.60}: undocumented {type(error).__name__}: {error}")
        else:
            unclear.append(f"{value!r:.60}: no error")
    assert not unclear, "\n".join(unclear)


def clear(message, call, argument, value):
    """Return whether a message says whose argument it is, or which, and what came."""
    if "no such folder" in message:
        return True
    keys = list(map(str, value)) if isinstance(value, dict) else []
    # a gate is a perceptron, and transforms are the batches'
    others = {"x1": "Perceptron", "x2": "Perceptron", "augment": "Batches|Compose"}.get(argument)
    owners = [call.name, argument, *keys, *([others] if others else [])]
    if not re.search(rf"\b({'|'.join(owners)})\b", message):
        return False
    members = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    # of a collection, the wrong member may be named alone; arrays are named by what is wrong with them
    named = [repr(value), type(value).__name__, "no array at all", *map(repr, members), *keys]
    return is_array(value) or any(name in message for name in named)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="nonsense"):
        xpdl.SGD(nonsense=3)


def test_weights_of_a_perceptron_may_be_an_array():
    assert xpdl.Perceptron(np.asarray([1.0, 1.0]), -1.5)(1, 1) == 1
