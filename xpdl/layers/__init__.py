"""One small class per concept: it owns its parameters and saves what its backward pass needs."""

from xpdl.layers.affine import Affine
from xpdl.layers.arithmetic import AddLayer, MulLayer
from xpdl.layers.base import Layer
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.chain import Chain
from xpdl.layers.convolution import Convolution
from xpdl.layers.convolution_transpose import ConvolutionTranspose
from xpdl.layers.dag import Dag
from xpdl.layers.dropout import Dropout
from xpdl.layers.elu import Elu
from xpdl.layers.flatten import Flatten
from xpdl.layers.gelu import Gelu
from xpdl.layers.identity import Identity
from xpdl.layers.leaky_relu import LeakyRelu
from xpdl.layers.losses import IdentityWithLoss, LossLayer, SigmoidWithLoss, SoftmaxWithLoss
from xpdl.layers.merging import Add, Concatenate, Multiply
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling
from xpdl.layers.rearranging import Permute, Reshape, Slice
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
    "Add",
    "AddLayer",
    "Affine",
    "AveragePooling",
    "BatchNormalization",
    "Chain",
    "Concatenate",
    "Convolution",
    "ConvolutionTranspose",
    "Dag",
    "Dropout",
    "Elu",
    "Flatten",
    "Gelu",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "GroupNormalization",
    "Identity",
    "IdentityWithLoss",
    "Layer",
    "LayerNormalization",
    "LeakyRelu",
    "LossLayer",
    "MulLayer",
    "Multiply",
    "Permute",
    "Pooling",
    "RMSNormalization",
    "Relu",
    "Reshape",
    "Residual",
    "Sigmoid",
    "SigmoidWithLoss",
    "Silu",
    "Slice",
    "Softmax",
    "SoftmaxWithLoss",
    "Softplus",
    "Tanh",
    "UpSampling",
]
