"""Short scripts of our own that import and call what the scripts of the book's chapters 3 to 8 do, by the name of each."""

from __future__ import annotations

_DIGITS = """
import sys, os
sys.path.append(os.pardir)
import numpy as np
from dataset.mnist import load_mnist
"""

_PLOT = """
import numpy as np
import matplotlib.pylab as plt
plt.plot(np.arange(3.0), np.array(np.arange(3.0) > 1, dtype=np.int))
plt.show()
"""

_PICKLED_NET = f"""{_DIGITS}
import pickle
from common.functions import sigmoid, softmax
_, (x, t) = load_mnist(normalize=True, flatten=True, one_hot_label=False)
with open("sample_weight.pkl", "rb") as file:
    network = pickle.load(file)
def predict(x):
    z = sigmoid(np.dot(x, network["W1"]) + network["b1"])
    return softmax(np.dot(z, network["W2"]) + network["b2"])
"""

_TRAINING_BY_HAND = f"""{_DIGITS}
from two_layer_net import TwoLayerNet
(x, t), test = load_mnist(normalize=True, one_hot_label=True)
network = TwoLayerNet(input_size=784, hidden_size=5, output_size=10)
losses = []
for _ in range(30):
    rows = np.random.choice(x.shape[0], 100)
    grad = network.gradient(x[rows], t[rows])
    for key in ("W1", "b1", "W2", "b2"):
        network.params[key] -= 0.5 * grad[key]
    losses.append(network.loss(x[rows], t[rows]))
assert losses[-1] < losses[0] and 0 <= network.accuracy(*test) <= 1
"""

_NET_BY_HAND = """
class Net:
    def __init__(self):
        self.params = {"W1": 0.1 * np.random.randn(6, 4), "b1": np.zeros(4)}
        self.params.update(W2=0.1 * np.random.randn(4, 3), b2=np.zeros(3))
"""

_NET_OF_FUNCTIONS = f"""
from common.functions import *
from common.gradient import numerical_gradient
{_NET_BY_HAND}
    def predict(self, x):
        p = self.params
        return softmax(np.dot(sigmoid(np.dot(x, p["W1"]) + p["b1"]), p["W2"]) + p["b2"])
    def loss(self, x, t):
        return cross_entropy_error(self.predict(x), t)
net, x, t = Net(), np.random.rand(5, 6), np.eye(3)[[0, 2, 1, 1, 0]]
grad = numerical_gradient(lambda W: net.loss(x, t), net.params["b2"])
assert np.abs(grad - np.sum(net.predict(x) - t, axis=0) / 5).max() < 1e-5 and sigmoid_grad(np.zeros(1)) == 0.25
"""

_NET_OF_LAYERS = f"""
import numpy as np
from common.layers import *
from common.gradient import numerical_gradient
from collections import OrderedDict
{_NET_BY_HAND}
        self.layers = OrderedDict()
        self.layers["Affine1"] = Affine(self.params["W1"], self.params["b1"])
        self.layers["Relu1"] = Relu()
        self.layers["Affine2"] = Affine(self.params["W2"], self.params["b2"])
        self.lastLayer = SoftmaxWithLoss()
    def loss(self, x, t):
        for layer in self.layers.values():
            x = layer.forward(x)
        return self.lastLayer.forward(x, t)
net, x, t = Net(), np.random.rand(5, 6), np.eye(3)[[0, 2, 1, 1, 0]]
numerical = numerical_gradient(lambda W: net.loss(x, t), net.params["W1"])
net.loss(x, t)
dout = net.lastLayer.backward(1)
for layer in reversed(list(net.layers.values())):
    dout = layer.backward(dout)
assert np.abs(net.layers["Affine1"].dW - numerical).max() < 1e-4 and net.layers["Affine1"].db.shape == (4,)
"""

_CONV_LAYERS = """
import pickle
import numpy as np
from common.layers import *
params = {"W1": 0.1 * np.random.randn(3, 1, 3, 3), "b1": np.zeros(3)}
params.update(W2=0.1 * np.random.randn(27, 10), b2=np.zeros(10))
dropout = Dropout(0.5)
layers = [
    Convolution(params["W1"], params["b1"], 1, 0), Relu(), Pooling(pool_h=2, pool_w=2, stride=2), dropout,
    Affine(params["W2"], params["b2"]),
]
last = SoftmaxWithLoss()
x = np.random.rand(2, 1, 8, 8)
for layer in layers:
    x = layer.forward(x, True) if isinstance(layer, Dropout) else layer.forward(x)
last.forward(x, np.array([1, 2]))
dout = last.backward(1)
for layer in reversed(layers):
    dout = layer.backward(dout)
assert dout.shape == (2, 1, 8, 8) and layers[0].dW.shape == (3, 1, 3, 3)
with open("own.pkl", "wb") as file:
    pickle.dump(params, file)
layers[0].W, layers[0].b = params["W1"], params["b1"]
"""

_SHOP = """
from layer_naive import *
apples, oranges, both, tax = MulLayer(), MulLayer(), AddLayer(), MulLayer()
price = tax.forward(both.forward(apples.forward(100, 2), oranges.forward(150, 3)), 1.1)
d_both, d_tax = tax.backward(1)
d_apples, d_oranges = both.backward(d_both)
assert int(price) == 715 and d_tax == 650 and int(apples.backward(d_apples)[1]) == 110
"""

_OPTIMIZERS = """
from common.optimizer import *
params, grads = {"x": -7.0, "y": 2.0}, {"x": 0, "y": 0}
for optimizer in (SGD(lr=0.95), Momentum(lr=0.1), AdaGrad(lr=1.5), Adam(lr=0.3), RMSprop(), Nesterov()):
    params["x"], params["y"] = -7.0, 2.0
    for _ in range(5):
        grads["x"], grads["y"] = params["x"] / 10.0, 2.0 * params["y"]
        optimizer.update(params, grads)
    assert params["x"] > -7.0 and params["y"] < 2.0
points = np.meshgrid(np.arange(3), np.arange(2))
"""

_DEEP_NETS = """
import sys, os
sys.path.append(os.pardir)
from dataset.mnist import load_mnist
from common.util import smooth_curve
from common.multi_layer_net import MultiLayerNet
from common.optimizer import *
(x, t), _ = load_mnist(normalize=True)
networks = {std: MultiLayerNet(input_size=784, hidden_size_list=[20, 20], output_size=10, weight_init_std=std)
            for std in (0.01, "sigmoid", "relu")}
losses = {std: [] for std in networks}
optimizer = SGD(lr=0.1)
for _ in range(20):
    rows = np.random.choice(x.shape[0], 64)
    for std, network in networks.items():
        optimizer.update(network.params, network.gradient(x[rows], t[rows]))
        losses[std].append(network.loss(x[rows], t[rows]))
assert smooth_curve(losses["relu"]).shape == (20,) and losses["relu"][-1] < losses["relu"][0]
"""

_EXTENDED = f"""{_DIGITS}
from common.multi_layer_net_extend import MultiLayerNetExtend
from common.optimizer import SGD, Adam
from common.trainer import Trainer
(x, t), test = load_mnist(normalize=True)
network = MultiLayerNetExtend(input_size=784, hidden_size_list=[20, 20], output_size=10, weight_init_std=0.1,
                              use_batchnorm=True, use_dropout=True, dropout_ration=0.2)
trainer = Trainer(network, x[:300], t[:300], *test, epochs=2, mini_batch_size=100, optimizer="sgd",
                  optimizer_param={{"lr": 0.01}}, verbose=True)
trainer.train()
assert len(trainer.train_acc_list) == len(trainer.test_acc_list) == 2
SGD(lr=0.01).update(network.params, network.gradient(x[:50], t[:50]))
"""

_GRADIENT_CHECK = """
{imports}
network = {net}
grad, numerical = network.gradient(x, t), network.numerical_gradient(x, t)
for key in numerical.keys():
    print(key, np.average(np.abs(grad[key] - numerical[key])))
    # in float64, as in the book
    assert np.average(np.abs(grad[key] - numerical[key])) < (1e-8 if network.params[key].dtype == np.float64 else 1e-3)
"""

_CONV_NET = """network = SimpleConvNet(input_dim=(1,28,28),
                        conv_param={'filter_num': 4, 'filter_size': 5, 'pad': 0, 'stride': 1}, hidden_size=10,
                        output_size=10, weight_init_std=0.01)"""

_TRAIN_CONV_NET = f"""{_DIGITS}
from simple_convnet import SimpleConvNet
from common.trainer import Trainer
(x, t), test = load_mnist(flatten=False)
{_CONV_NET}
trainer = Trainer(network, x[:200], t[:200], *test, epochs=1, mini_batch_size=100, optimizer="Adam",
                  optimizer_param={{"lr": 0.001}}, evaluate_sample_num_per_epoch=100)
trainer.train()
network.save_params("params.pkl")
network.load_params("params.pkl")
assert len(trainer.test_acc_list) == 1
"""

_DEEP_CONV_NET = f"""{_DIGITS}
from deep_convnet import DeepConvNet
from common.trainer import Trainer
(x, t), (x_test, t_test) = load_mnist(flatten=False)
network = DeepConvNet()
trainer = Trainer(network, x[:20], t[:20], x_test, t_test, epochs=1, mini_batch_size=20, optimizer="Adam",
                  optimizer_param={{"lr": 0.001}}, evaluate_sample_num_per_epoch=20)
trainer.train()
network.save_params("deep_convnet_params.pkl")
network.load_params("deep_convnet_params.pkl")
x_test, t_test = x_test[:30], t_test[:30]
y = np.argmax(network.predict(x_test, train_flg=False), axis=1)
wrong = [(t_test[i], y[i]) for i, right in enumerate(y == t_test) if not right]
assert round(30 * network.accuracy(x_test, t_test)) == 30 - len(wrong)
x_test = x_test.astype(np.float16)
for param in network.params.values():
    param[...] = param.astype(np.float16)
assert 0 <= network.accuracy(x_test, t_test) <= 1
"""

#: script of the book -> one with its imports and calls
STAND_INS: dict[str, str] = {
    "ch03/mnist_show": f"{_DIGITS}from PIL import Image\n"
    "(x, t), _ = load_mnist(flatten=True, normalize=False)\n"
    "assert Image.fromarray(np.uint8(x[0].reshape(28, 28))).size == (28, 28) and t[0] in range(10)\n",
    "ch03/neuralnet_mnist": f"{_PICKLED_NET}assert np.argmax(predict(x[0])) in range(10) and t[0] in range(10)\n",
    "ch03/neuralnet_mnist_batch": f"{_PICKLED_NET}assert 0 <= np.sum(np.argmax(predict(x[:100]), axis=1) == t[:100])\n",
    **dict.fromkeys(("ch03/relu", "ch03/sig_step_compare", "ch03/sigmoid", "ch03/step_function"), _PLOT),
    **dict.fromkeys(("ch04/gradient_1d", "ch04/gradient_2d"), _PLOT),
    "ch04/gradient_method": _PLOT,
    "ch04/gradient_simplenet": "import numpy as np\nfrom common.functions import softmax, cross_entropy_error\n"
    "from common.gradient import numerical_gradient\nW = np.random.randn(2, 3)\n"
    "f = lambda w: cross_entropy_error(softmax(np.dot(np.array([0.6, 0.9]), W)), np.array([0, 0, 1]))\n"
    "assert numerical_gradient(f, W).shape == (2, 3)\n",
    "ch04/train_neuralnet": _TRAINING_BY_HAND,
    "ch04/two_layer_net": _NET_OF_FUNCTIONS,
    **dict.fromkeys(("ch05/buy_apple", "ch05/buy_apple_orange", "ch05/layer_naive"), _SHOP),
    "ch05/gradient_check": _GRADIENT_CHECK.format(
        imports=f"{_DIGITS}from two_layer_net import TwoLayerNet\n"
        "(x, t), _ = load_mnist(normalize=True, one_hot_label=True)\nx, t = x[:3], t[:3]",
        net="TwoLayerNet(input_size=784, hidden_size=2, output_size=10)",
    ),
    "ch05/train_neuralnet": _TRAINING_BY_HAND,
    "ch05/two_layer_net": _NET_OF_LAYERS,
    "ch06/batch_norm_gradient_check": _GRADIENT_CHECK.format(
        imports=f"{_DIGITS}from common.multi_layer_net_extend import MultiLayerNetExtend\n"
        "(x, t), _ = load_mnist(normalize=True, one_hot_label=True)\nx, t = x[:1], t[:1]",
        net="MultiLayerNetExtend(input_size=784, hidden_size_list=[2], output_size=10, activation='sigmoid',\n"
        "                              use_batchnorm=True)",
    ),
    "ch06/batch_norm_test": _EXTENDED,
    "ch06/hyperparameter_optimization": f"{_DIGITS}from common.multi_layer_net import MultiLayerNet\n"
    "from common.util import shuffle_dataset\nfrom common.trainer import Trainer\n"
    "(x, t), _ = load_mnist(normalize=True)\nx, t = shuffle_dataset(x[:100], t[:100])\n"
    "network = MultiLayerNet(input_size=784, hidden_size_list=[5] * 6, output_size=10, weight_decay_lambda=1e-5)\n"
    "trainer = Trainer(network, x[20:], t[20:], x[:20], t[:20], epochs=2, mini_batch_size=40, optimizer='sgd',\n"
    "                  optimizer_param={'lr': 0.01}, verbose=False)\n"
    "trainer.train()\nassert len(trainer.test_acc_list) == len(trainer.train_acc_list) == 2\n",
    "ch06/optimizer_compare_mnist": _DEEP_NETS,
    "ch06/optimizer_compare_naive": _OPTIMIZERS,
    "ch06/overfit_dropout": _EXTENDED,
    "ch06/overfit_weight_decay": _DEEP_NETS,
    "ch06/weight_init_activation_histogram": _PLOT,
    "ch06/weight_init_compare": _DEEP_NETS,
    "ch07/apply_filter": "import numpy as np\nfrom simple_convnet import SimpleConvNet\n"
    f"from common.layers import Convolution\n{_CONV_NET}\nw = network.params['W1'][0]\nimg = np.random.rand(20, 20)\n"
    "out = Convolution(w.reshape(1, *w.shape), 0).forward(img.reshape(1, 1, *img.shape))\n"
    "assert out.reshape(out.shape[2], out.shape[3]).shape == (16, 16)\n",
    "ch07/gradient_check": _GRADIENT_CHECK.format(
        imports="import numpy as np\nfrom simple_convnet import SimpleConvNet\n"
        "x, t = np.random.rand(64).reshape((1, 1, 8, 8)), np.array([1]).reshape((1,1))",
        net="SimpleConvNet(input_dim=(1,8,8), conv_param={'filter_num':2, 'filter_size':3, 'pad':0, 'stride':1},\n"
        "                        hidden_size=3, output_size=10, weight_init_std=0.5)",
    ),
    "ch07/simple_convnet": _CONV_LAYERS,
    "ch07/train_convnet": _TRAIN_CONV_NET,
    "ch07/visualize_filter": "from simple_convnet import SimpleConvNet\nnetwork = SimpleConvNet()\n"
    "assert network.params['W1'].shape == (30, 1, 5, 5)\nnetwork.save_params('params.pkl')\n"
    "network.load_params('params.pkl')\n",
    "ch08/deep_convnet": _CONV_LAYERS,
    **dict.fromkeys(("ch08/half_float_network", "ch08/misclassified_mnist", "ch08/train_deepnet"), _DEEP_CONV_NET),
}
