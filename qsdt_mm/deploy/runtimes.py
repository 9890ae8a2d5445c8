"""ONNX files of plans in the runtimes that take them: a file in the place of its plan."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from qsdt_mm.errors import InputError, one_line, require, why_no_file
from qsdt_mm.fileio.atomic import PathLike

from .notes import read_notes
from .onnx import require_package

BACKENDS = ('onnxruntime', 'openvino')
LEVELS = dict(
    disabled='ORT_DISABLE_ALL', basic='ORT_ENABLE_BASIC', extended='ORT_ENABLE_EXTENDED', all='ORT_ENABLE_ALL'
)
"""Levels of optimisation of ONNX Runtime, by our names and its own."""

Arrays = dict[str, np.ndarray]


class Runtime(nn.Module):
    """A plan's file in a runtime, which computes as the plan does: from pixels, with the same bits.

    Args:
        file: an ONNX file that ``tools/deployment/export_onnx.py`` has written, or its bytes.
        backend: 'onnxruntime' or 'openvino'.
        level: 'disabled', 'basic', 'extended' or 'all': how far ONNX Runtime optimises.

    Attributes:
        notes: what the file says of itself, see :mod:`qsdt_mm.deploy.notes`.
        shape: of one image.
        batch: number of images that the file takes; None for any.

    Raises:
        ValueError: an argument is out of range.
        InputError: the file cannot be read, is not of a plan, or the runtime is not installed; one line.

    >>> Runtime('missing.onnx')
    Traceback (most recent call last):
    qsdt_mm.errors.InputError: missing.onnx does not exist
    """

    def __init__(self, file: PathLike | bytes, backend: str = 'onnxruntime', level: str = 'all') -> None:
        super().__init__()
        require(backend in BACKENDS, 'backend', backend, ' or '.join(BACKENDS))
        require(level in LEVELS, 'level', level, ', '.join(LEVELS))
        name = 'the file' if isinstance(file, bytes) else str(file)
        content = _content(file)
        onnx, module = require_package('onnx'), require_package(backend)
        try:
            model = onnx.load_model_from_string(content)
        except Exception as error:  # of protobuf
            raise InputError(f'{name} is no ONNX file: {one_line(error)[:200]}') from error
        self.notes = read_notes({entry.key: entry.value for entry in model.metadata_props}, name)
        self.shape = tuple(self.notes['shape'])
        missing = set(tree_flatten(self.notes['outputs'])[0]) - {output.name for output in model.graph.output}
        require(not missing, f'{name}: outputs', ', '.join(sorted(missing)), 'names of those of the graph', InputError)
        try:
            first = model.graph.input[0].type.tensor_type.shape.dim[0]
            self.batch = first.dim_value or None
            start = _onnxruntime if backend == 'onnxruntime' else _openvino
            self._compute = start(module, content, level, [output.name for output in model.graph.output])
        except Exception as error:  # of whatever the runtime raises
            raise InputError(f'{name} cannot be run by {backend}: {one_line(error)[:300]}') from error

    def __deepcopy__(self, memo: Any) -> Runtime:
        return self  # what computes keeps no state

    def forward(self, pixels: Tensor) -> Any:
        """Compute the outputs of images, in as many parts as the file's number of images asks for.

        Raises:
            InputError: the images have another shape.
        """
        require(tuple(pixels.shape[1:]) == self.shape, 'pixels', tuple(pixels.shape), f'(N, {self.shape})', InputError)
        images = pixels.to('cpu', torch.uint8).numpy()
        size = self.batch or max(len(images), 1)
        parts = [self._part(images[i : i + size], size) for i in range(0, len(images), size)]
        joined = {
            name: torch.from_numpy(np.concatenate([part[name] for part in parts]) if len(parts) > 1 else parts[0][name])
            for name in tree_flatten(self.notes['outputs'])[0]
        }
        return tree_map(lambda name: joined[name].to(pixels.device), self.notes['outputs'])

    def _part(self, images: np.ndarray, size: int) -> Arrays:
        missing = size - len(images)
        if not missing:
            return self._compute(images)
        filled = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        return {name: output[: len(images)] for name, output in self._compute(filled).items()}


def _content(file: PathLike | bytes) -> bytes:
    if isinstance(file, bytes):
        return file
    absent = why_no_file(file)
    if absent:
        raise InputError(f'{file} {absent}')
    return Path(file).read_bytes()


def _options(onnxruntime: Any, level: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    return options


def _onnxruntime(onnxruntime: Any, content: bytes, level: str, names: list[str]) -> Callable[[np.ndarray], Arrays]:
    options = _options(onnxruntime, level)
    session = onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    return lambda images: dict(zip(names, session.run(names, {'pixels': images})))


def _openvino(openvino: Any, content: bytes, level: str, names: list[str]) -> Callable[[np.ndarray], Arrays]:
    core = openvino.Core()
    # Membranes need float32, which is not what it takes by itself on every machine.
    settings = dict(INFERENCE_PRECISION_HINT='f32', INFERENCE_NUM_THREADS=torch.get_num_threads())
    compiled = core.compile_model(core.read_model(content, b''), 'CPU', settings)

    def compute(images: np.ndarray) -> Arrays:
        found = compiled.create_infer_request().infer({0: images})
        # By their order: an output may have the name of what it was made of.
        return {name: np.array(found[output]) for name, output in zip(names, compiled.outputs)}

    return compute


def optimised_operators(content: bytes) -> Counter[str]:
    """Count the operators of a file once ONNX Runtime has optimised it.

    Raises:
        InputError: onnx or onnxruntime is not installed.
    """
    onnx, onnxruntime = require_package('onnx'), require_package('onnxruntime')
    options = _options(onnxruntime, 'all')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'optimised.onnx'
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
        return Counter(node.op_type for node in onnx.load(path).graph.node)
