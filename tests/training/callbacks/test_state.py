"""The state of callbacks goes through JSON and named arrays, and comes back with its types."""

import json

import numpy as np
import pytest

import xpdl
from xpdl.backends import get_backend
from xpdl.training.callbacks.state import from_file, to_file


class Keeps:
    def __init__(self, state=None):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


class Other(Keeps):
    pass


def there_and_back(state, backend=None):
    backend = backend or get_backend()
    text, arrays = to_file([Keeps(state)], backend)
    keeper = Keeps()
    ((found, loaded),) = from_file(text, arrays, [keeper], backend, "file")
    assert found is keeper
    return loaded


@pytest.mark.parametrize(
    "state",
    [
        {"int": 3, "float": 0.1, "bool": True, "none": None, "text": "ä", "nested": {"list": [1, [2.5, {"x": None}]]}},
        {"empty": {}, "list": []},
        ["a list", 1],
    ],
)
def test_numbers_strings_lists_and_dicts_come_back(state):
    assert there_and_back(state) == state


def test_tuples_come_back_as_lists():
    assert there_and_back({"pair": (1, 2)}) == {"pair": [1, 2]}


@pytest.mark.backends("values")
@pytest.mark.backends("plain")
def test_arrays_lie_beside_the_network_again(backend):
    values = np.array([[1.5, -2.0]], np.float32)
    with backend.use("float32") as here:
        loaded = there_and_back({"deep": [{"a": backend.asarray(values)}]}, here)
    backend.check(loaded["deep"][0]["a"], values)


def test_names_of_arrays_say_where_they_are():
    arrays = to_file([Keeps({"deep": {"a": [0, np.ones(2)]}}), Keeps({"b": np.ones(3)})], get_backend())[1]
    assert {name: array.shape for name, array in arrays.items()} == {
        "callback.Keeps1.deep.a.1": (2,),
        "callback.Keeps2.b": (3,),
    }


def test_arrays_of_the_networks_dtype_take_on_that_of_the_network_that_reads():
    with xpdl.use("numpy", dtype="float64") as wide:
        text, arrays = to_file([Keeps({"own": np.ones(2), "other": np.ones(2, np.float32), "n": np.arange(2)})], wide)
    with xpdl.use("numpy", dtype="float32") as narrow:
        ((_, loaded),) = from_file(text, arrays, [Keeps()], narrow, "file")
    assert {name: array.dtype.name for name, array in loaded.items()} == {
        "own": "float32",
        "other": "float32",
        "n": np.arange(2).dtype.name,
    }
    ((_, loaded),) = from_file(text, arrays, [Keeps()], wide, "file")
    assert (loaded["own"].dtype.name, loaded["other"].dtype.name) == ("float64", "float32")


def test_host_arrays_beside_a_network_elsewhere_stay_on_the_host():
    with xpdl.use("array_api_strict") as strict:
        loaded = there_and_back({"host": np.ones(2, np.float32), "there": xpdl.asarray([1.0])}, strict)
    assert type(loaded["host"]) is np.ndarray
    assert type(loaded["there"]).__module__.startswith("array_api_strict")


def test_each_goes_to_the_one_of_its_class_and_number():
    given = [Keeps({"n": 1}), Other({"n": 2}), Keeps({"n": 3})]
    text, arrays = to_file(given, get_backend())
    assert list(json.loads(text)) == ["Keeps1", "Other1", "Keeps2"]
    here = [Other(), Keeps(), Keeps()]
    for callback, state in from_file(text, arrays, here, get_backend(), "file"):
        callback.load_state_dict(state)
    assert [callback.state["n"] for callback in here] == [2, 1, 3]


def test_those_without_a_state_or_without_both_methods_are_left_out():
    class SavesOnly:
        def state_dict(self):
            raise AssertionError("not asked")

    class LoadsOnly:
        def load_state_dict(self, state):
            raise AssertionError("not asked")

    odd = [SavesOnly(), LoadsOnly(), object()]
    text, arrays = to_file([*odd, Keeps({}), Other({"n": 1})], get_backend())
    assert json.loads(text) == {"Other1": {"n": 1}} and arrays == {}
    # further ones, new to the run, begin as they are
    (pair,) = from_file(text, arrays, [*odd, Keeps(), (other := Other())], get_backend(), "file")
    assert pair == (other, {"n": 1})


def test_missing_ones_are_named():
    text, arrays = to_file([Other({"n": 1}), Keeps({"n": 1}), Keeps({"n": 2})], get_backend())
    with pytest.raises(
        ValueError, match=r"^file: was written by a run with the callbacks Keeps2, Other1; give them again$"
    ):
        from_file(text, arrays, [Keeps()], get_backend(), "file")


@pytest.mark.parametrize(
    ("state", "where", "what"),
    [
        ({"a": {1, 2}}, r"Keeps1\.a", "set"),
        ({"a": [0, 1j]}, r"Keeps1\.a\.1", "complex"),
        ({"a": {1: 2}}, r"Keeps1\.a", "dict"),
    ],
)
def test_what_no_file_keeps_is_refused_by_its_place(state, where, what):
    message = rf"callback\.{where} of a state_dict\(\) is a {what}; a checkpoint keeps numbers, strings, arrays"
    with pytest.raises(TypeError, match=message):
        to_file([Keeps(state)], get_backend())
