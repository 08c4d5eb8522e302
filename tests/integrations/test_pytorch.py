"""State dicts of PyTorch, both ways, against PyTorch itself."""

import importlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import xpdl
from xpdl import (
    Affine,
    AveragePooling,
    BatchNormalization,
    Convolution,
    Dropout,
    Flatten,
    Gelu,
    GroupNormalization,
    Layer,
    LayerNormalization,
    Pooling,
    Relu,
    Residual,
    RMSNormalization,
    Sequential,
    ShapeError,
    SimpleConvNet,
    SoftmaxWithLoss,
    use,
)
from xpdl.integrations.pytorch import load_pytorch, save_pytorch

SHAPE = (2, 9, 8)


def net(seed=0, dtype="float64"):
    made = Sequential(
        Convolution(filters=4, size=(3, 2), stride=2, pad=1, groups=2),
        BatchNormalization(eps=1e-5),
        Relu(),
        Pooling(2, 2, stride=1),
        Convolution(filters=3, size=2, dilation=2, use_bias=False),
        Flatten(),
        Dropout(0.5, inverted=True),
        Affine(units=5),
        BatchNormalization(eps=1e-5),
        Affine(units=3, use_bias=False),
        loss=SoftmaxWithLoss,
        seed=seed,
    )
    with use("numpy", dtype=dtype):
        made.build(SHAPE)
    rng = np.random.default_rng(seed)
    for view in (made.params, made.buffers):
        for name, value in view.items():
            value += 0.1 * rng.random(value.shape)
            assert name
    return made


def module(torch, model):
    """The same in PyTorch, written out by hand, with weights of its own."""
    nn = torch.nn
    torch.manual_seed(1)
    made = nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=2, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(4, 3, 2, dilation=2, bias=False),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(3 * 2 * 2, 5),
        nn.BatchNorm1d(5),
        nn.Linear(5, 3, bias=False),
    ).double()
    made(torch.randn(16, *SHAPE, dtype=torch.float64))  # running statistics that are not those of the beginning
    return made.eval()


def rows():
    return np.random.default_rng(3).standard_normal((6, *SHAPE))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.fixture
def tensors():
    return importlib.import_module("safetensors.torch")


def outputs(torch, there):
    with torch.no_grad():
        return there(torch.tensor(rows())).numpy()


class TestAgainstPytorch:
    def test_written_here_gives_the_same_outputs_there(self, torch, tensors, path):
        here = net()
        there = module(torch, here)
        save_pytorch(here, path, "index")
        loaded = tensors.load_file(path)
        assert not any(there.load_state_dict(loaded))
        np.testing.assert_allclose(outputs(torch, there), here.predict(rows()), rtol=1e-11, atol=1e-13)

    def test_written_there_gives_the_same_outputs_here(self, torch, tensors, path):
        here = net()
        there = module(torch, here)
        tensors.save_file(there.state_dict(), path)
        assert load_pytorch(here, path, "index") == ([], [])
        np.testing.assert_allclose(outputs(torch, there), here.predict(rows()), rtol=1e-11, atol=1e-13)

    def test_a_state_dict_needs_no_file(self, torch):
        here = net()
        there = module(torch, here)
        assert not any(load_pytorch(here, there.state_dict(), "index"))
        np.testing.assert_allclose(here.predict(rows()), outputs(torch, there), rtol=1e-11, atol=1e-13)
        with pytest.raises(
            TypeError, match=r"expected a path or a state dict, got Sequential; pass module.state_dict\(\)"
        ):
            load_pytorch(here, there)
        words = (
            r'unexpected 0.weight .*; xpdl.load_pytorch\(model, state, names="index"\) takes those of a Sequential of'
        )
        with pytest.raises(ValueError, match=words):
            here.load_state_dict(there.state_dict())

    def test_short_names_of_a_module_with_attributes(self, torch, tensors, path):
        nn = torch.nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv1, self.bn1, self.fc1 = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 7 * 6, 3)

            def forward(self, x):
                return self.fc1(torch.flatten(torch.relu(self.bn1(self.conv1(x))), 1))

        there = Net().double().eval()
        here = Sequential(Convolution(filters=4, size=3), BatchNormalization(eps=1e-5), Relu(), Affine(units=3))
        with use("numpy", dtype="float64"):
            here.build(SHAPE)
        tensors.save_file(there.state_dict(), path)
        load_pytorch(here, path)
        np.testing.assert_allclose(outputs(torch, there), here.predict(rows()), rtol=1e-11, atol=1e-13)
        here.params["Affine1.b"][...] += 1
        save_pytorch(here, path)
        there.load_state_dict(tensors.load_file(path))
        np.testing.assert_allclose(outputs(torch, there), here.predict(rows()), rtol=1e-11, atol=1e-13)

    @pytest.mark.parametrize("flatten", [True, False], ids=["with Flatten", "without Flatten"])
    def test_a_usual_sequential_both_ways(self, torch, tensors, path, flatten):
        nn = torch.nn
        torch.manual_seed(2)
        there = nn.Sequential(
            *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(4 * 3 * 3, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3)),
        ).double()
        there(torch.randn(16, *SHAPE, dtype=torch.float64))
        there.eval()
        layers = [Convolution(filters=4, size=3), BatchNormalization(eps=1e-5), Relu(), Pooling(2, 2), Flatten()]
        layers += [Affine(units=6), Relu(), Dropout(0.5, inverted=True), Affine(units=3)]
        here = Sequential(*(layers if flatten else [one for one in layers if not isinstance(one, Flatten)]))
        with use("numpy", dtype="float64"):
            here.build(SHAPE)
        tensors.save_file(there.state_dict(), path)
        assert int(load_file(path)["1.num_batches_tracked"]) == 1
        assert xpdl.load_pytorch(here, path, "index") == ([], [])
        np.testing.assert_allclose(outputs(torch, there), here.predict(rows()), rtol=1e-11, atol=1e-13)
        for value in (*here.params.values(), *here.buffers.values()):
            value += 0.25
        xpdl.save_pytorch(here, path, "index")
        assert not any(there.load_state_dict(tensors.load_file(path)))
        np.testing.assert_allclose(outputs(torch, there), here.predict(rows()), rtol=1e-11, atol=1e-13)

    def test_other_layers_between_are_taken_in_their_order(self, torch, tensors, path):
        nn = torch.nn
        there = nn.Sequential(
            *(nn.Dropout(0.1), nn.Conv2d(2, 4, 3), nn.Identity(), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(4 * 7 * 6, 3), nn.Identity()),
        )
        there = there.double().eval()
        here = Sequential(Convolution(filters=4, size=3), Relu(), Affine(units=3))
        with use("numpy", dtype="float64"):
            here.build(SHAPE)
        tensors.save_file(there.state_dict(), path)
        assert load_pytorch(here, path, "index") == ([], [])
        np.testing.assert_allclose(outputs(torch, there), here.predict(rows()), rtol=1e-11, atol=1e-13)

    def test_normalizations_and_affine_maps_of_positions_both_ways(self, torch, tensors, path):
        nn = torch.nn
        torch.manual_seed(3)
        there = nn.Sequential(
            *(nn.GroupNorm(2, 2), nn.Linear(8, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 4, bias=False)),
            *(nn.RMSNorm(4, eps=1e-6), nn.Flatten(), nn.Linear(2 * 9 * 4, 3)),
        ).double()
        here = Sequential(
            *(GroupNormalization(2), Affine(units=6, axis=-1), LayerNormalization(), Gelu()),
            *(Affine(units=4, axis=-1, use_bias=False), RMSNormalization(), Affine(units=3)),
            seed=0,
        )
        with use("numpy", dtype="float64"):
            here.build(SHAPE)
        for value in here.params.values():
            value += 0.25
        save_pytorch(here, path, "index")
        assert not any(there.load_state_dict(tensors.load_file(path)))
        np.testing.assert_allclose(outputs(torch, there), here.predict(rows()), rtol=1e-11, atol=1e-13)
        with torch.no_grad():
            for parameter in there.parameters():
                parameter.add_(torch.randn_like(parameter))
        tensors.save_file(there.state_dict(), path)
        assert load_pytorch(here, path, "index") == ([], [])
        np.testing.assert_allclose(outputs(torch, there), here.predict(rows()), rtol=1e-11, atol=1e-13)
        save_pytorch(here, path)
        assert {"gn1.weight", "ln1.bias", "rms1.weight", "fc3.weight"} < set(load_file(path))

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    def test_other_widths_are_taken_as_they_are(self, torch, tensors, path, dtype):
        here = net(dtype="float32")
        there = module(torch, here).to(getattr(torch, dtype))
        tensors.save_file(there.state_dict(), path)
        load_pytorch(here, path, "index")
        np.testing.assert_array_equal(here.params["Affine1.W"], there[7].weight.detach().float().numpy().T)
        assert here.params["Affine1.W"].dtype == np.float32


class TestNames:
    def test_short(self, path):
        save_pytorch(net(), path)
        assert set(load_file(path)) == {
            *("conv1.weight", "conv1.bias", "conv2.weight", "fc1.weight", "fc1.bias", "fc2.weight"),
            *(
                f"bn{k}.{key}"
                for k in (1, 2)
                for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            ),
        }

    def test_weights_of_affine_are_transposed(self, path):
        here = net()
        save_pytorch(here, path)
        np.testing.assert_array_equal(load_file(path)["fc1.weight"], here.params["Affine1.W"].T)
        np.testing.assert_array_equal(load_file(path)["conv1.weight"], here.params["Convolution1.W"])

    def test_given_ones(self, path):
        here = SimpleConvNet((1, 8, 8), seed=0)
        names = {"Conv1": "features.0", "Affine1": "classifier.1", "Affine2": "classifier.4"}
        save_pytorch(here, path, names)
        assert "classifier.4.bias" in load_file(path)
        other = SimpleConvNet((1, 8, 8), seed=1)
        load_pytorch(other, path, names)
        np.testing.assert_array_equal(other.params["W3"], here.params["W3"])

    def test_nested(self, path):
        here = Sequential(Affine(units=3), Residual(Affine(units=3), Relu(), Affine(units=3)), seed=0)
        here.build((3,))
        save_pytorch(here, path, "index")
        assert {name.removesuffix(".weight") for name in load_file(path) if "weight" in name} == {
            "0",
            "1.body.0",
            "1.body.2",
        }
        save_pytorch(here, path)
        assert "fc3.weight" in load_file(path)

    @pytest.mark.parametrize("names", ["long", None, 3, ["conv"], {"Convolution1": "a"}, dict.fromkeys("ab", "c")])
    def test_others_are_refused(self, path, names):
        with pytest.raises(ValueError, match="names"):
            save_pytorch(net(), path, names)
        assert not path.exists()

    def test_two_alike_are_refused(self, path):
        here = Sequential(Affine(units=3), Affine(units=3))
        here.build((3,))
        with pytest.raises(ValueError, match="Affine1 and Affine2 are both called 'a'"):
            save_pytorch(here, path, {"Affine1": "a", "Affine2": "a"})


class TestWhatDoesNotFit:
    def test_is_listed_and_changes_nothing(self, path):
        here = net()
        save_pytorch(net(1), path)
        arrays = load_file(path)
        del arrays["conv1.bias"]
        arrays.update({"fc1.weight": np.zeros((5, 13)), "fc2.weight": np.zeros(3), "Affine1.W": np.zeros(1)})
        save_file(arrays, path)
        before = here.state_dict()
        with pytest.raises(ValueError) as failed:
            load_pytorch(here, path)
        for part in (
            "missing Convolution1.b (4,)",
            "unexpected Affine1.W (of the file) (1,)",
            "Affine1.W has shape (13, 5), expected (12, 5)",
            "Affine2.W has shape (3,), expected (5, 3)",
        ):
            assert part in str(failed.value)
        for name, value in here.state_dict().items():
            np.testing.assert_array_equal(value, before[name])

    def test_not_strict_says_what_differs(self, path):
        save_pytorch(net(1), path)
        arrays = load_file(path)
        del arrays["conv1.bias"]
        save_file({**arrays, "head.bias": np.zeros(1)}, path)
        assert load_pytorch(net(), path, strict=False) == (["Convolution1.b"], ["head.bias"])

    def test_model_without_parameters_is_refused(self, path):
        here = Sequential(Affine(units=2))
        for function in (save_pytorch, load_pytorch):
            with pytest.raises(ShapeError, match="call build"):
                function(here, path)

    def test_layer_of_ones_own_is_refused_by_name(self, path):
        class Scale(Layer):
            def create_parameters(self, input_shape, make):
                self.params["s"] = make("s", input_shape, "ones")

        here = Sequential(Scale(), AveragePooling(2, 2))
        here.build((1, 4, 4))
        with pytest.raises(TypeError, match="Scale1: Scale has no counterpart in PyTorch"):
            save_pytorch(here, path)
