"""The book's nets under the book's names, a GPT, and `Sequential` and `Graph` for any other."""

from xpdl.deprecation import moved
from xpdl.layers.nodes import Input, Node
from xpdl.models.architecture import register_layer
from xpdl.models.attention_seq2seq import AttentionSeq2seq
from xpdl.models.deep_conv_net import DeepConvNet
from xpdl.models.gpt import GPT
from xpdl.models.graph import Graph
from xpdl.models.multi_layer_net import MultiLayerNet, MultiLayerNetExtend
from xpdl.models.registry import MODELS, load_model
from xpdl.models.rnn_lm import RnnLm
from xpdl.models.seq2seq import PeekySeq2seq, Seq2seq
from xpdl.models.sequential import Sequential
from xpdl.models.simple_conv_net import SimpleConvNet
from xpdl.models.two_layer_net import TwoLayerNet
from xpdl.models.word_vectors import CBOW, SkipGram

__all__ = [
    "CBOW",
    "GPT",
    "MODELS",
    "AttentionSeq2seq",
    "DeepConvNet",
    "Graph",
    "Input",
    "MultiLayerNet",
    "MultiLayerNetExtend",
    "Node",
    "PeekySeq2seq",
    "RnnLm",
    "Seq2seq",
    "Sequential",
    "SimpleConvNet",
    "SkipGram",
    "TwoLayerNet",
    "load_model",
    "register_layer",
]

__getattr__ = moved(__name__, {name: f"xpdl.integrations.pytorch.{name}" for name in ("load_pytorch", "save_pytorch")})
