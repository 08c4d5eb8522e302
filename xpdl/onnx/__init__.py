"""ONNX files of trained models (``pip install "xpdl[onnx]"``), for onnxruntime and other runtimes.

`xpdl.onnx` is loaded when it is first used, and needs no PyTorch.
"""

from importlib.util import find_spec

if find_spec("onnx") is None:
    raise ImportError('xpdl.onnx needs the package onnx: pip install "xpdl[onnx]"')

from xpdl.onnx.graph import OPSET, Graph, Value
from xpdl.onnx.loading import load
from xpdl.onnx.model_file import export

__all__ = ["OPSET", "Graph", "Value", "export", "load"]
