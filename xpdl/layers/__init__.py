"""One small class per concept: it owns its parameters and saves what its backward pass needs."""

from xpdl.layers.affine import Affine
from xpdl.layers.arithmetic import AddLayer, MulLayer
from xpdl.layers.base import Layer
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.bidirectional import Bidirectional
from xpdl.layers.chain import Chain
from xpdl.layers.convolution import Convolution
from xpdl.layers.convolution_transpose import ConvolutionTranspose
from xpdl.layers.dag import Dag
from xpdl.layers.dropout import Dropout
from xpdl.layers.elu import Elu
from xpdl.layers.embedding import Embedding
from xpdl.layers.flatten import Flatten
from xpdl.layers.gelu import Gelu
from xpdl.layers.hinge import Hinge
from xpdl.layers.identity import Identity
from xpdl.layers.leaky_relu import LeakyRelu
from xpdl.layers.log_softmax import LogSoftmax
from xpdl.layers.losses import LossLayer, SigmoidWithLoss, SoftmaxWithLoss
from xpdl.layers.merging import Add, Concatenate, Multiply
from xpdl.layers.multi_head_attention import MultiHeadAttention
from xpdl.layers.negative_sampling import NegativeSampling
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling
from xpdl.layers.positions import LearnedPositions, SinusoidalPositions
from xpdl.layers.rearranging import Permute, Reshape, Slice
from xpdl.layers.recurrent import GRU, LSTM, RNN
from xpdl.layers.regression_losses import GaussianKL, Huber, IdentityWithLoss, MeanAbsoluteError, MeanSquaredError
from xpdl.layers.relu import Relu
from xpdl.layers.residual import Residual
from xpdl.layers.row_normalization import GroupNormalization, LayerNormalization, RMSNormalization
from xpdl.layers.sigmoid import Sigmoid
from xpdl.layers.silu import Silu
from xpdl.layers.softmax import Softmax
from xpdl.layers.softplus import Softplus
from xpdl.layers.tanh import Tanh
from xpdl.layers.upsampling import UpSampling

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Add",
    "AddLayer",
    "Affine",
    "AveragePooling",
    "BatchNormalization",
    "Bidirectional",
    "Chain",
    "Concatenate",
    "Convolution",
    "ConvolutionTranspose",
    "Dag",
    "Dropout",
    "Elu",
    "Embedding",
    "Flatten",
    "GaussianKL",
    "Gelu",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "GroupNormalization",
    "Hinge",
    "Huber",
    "Identity",
    "IdentityWithLoss",
    "Layer",
    "LayerNormalization",
    "LeakyRelu",
    "LearnedPositions",
    "LogSoftmax",
    "LossLayer",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MulLayer",
    "MultiHeadAttention",
    "Multiply",
    "NegativeSampling",
    "Permute",
    "Pooling",
    "RMSNormalization",
    "Relu",
    "Reshape",
    "Residual",
    "Sigmoid",
    "SigmoidWithLoss",
    "Silu",
    "SinusoidalPositions",
    "Slice",
    "Softmax",
    "SoftmaxWithLoss",
    "Softplus",
    "Tanh",
    "UpSampling",
]
