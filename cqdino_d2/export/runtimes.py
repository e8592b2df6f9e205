"""Exported files in the programs that run them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from importlib import import_module

import numpy as np
import torch

OUTPUTS = ("boxes", "scores", "vocab_ids")
Run = Callable[[Mapping[str, np.ndarray]], tuple[np.ndarray, ...]]


class ExportError(ValueError):
    """The model cannot be exported, or the file does not compute what the model does."""


def needed(*packages: str) -> None:
    """Makes sure that packages are there.

    Raises:
        ExportError: one is missing; says how to get all.
    """
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise ExportError(f"this needs pip install {' '.join(packages)} ({error})") from error


def onnxruntime_runner(content: bytes, threads: int | None = None) -> Run:
    """Runs an ONNX file in onnxruntime on the CPU.

    Raises:
        ExportError: onnxruntime is missing or cannot read the file.
    """
    needed("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of classes that it does not export
        raise ExportError(f"onnxruntime cannot read the file: {error}") from error
    return lambda inputs: tuple(session.run(list(OUTPUTS), dict(inputs)))


def openvino_runner(content: bytes, threads: int | None = None) -> Run:
    """Runs an ONNX file in OpenVINO on the CPU, in float32 wherever it could do with less.

    Raises:
        ExportError: OpenVINO is missing or cannot read the file.
    """
    needed("openvino")
    import openvino

    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        core = openvino.Core()
        request = core.compile_model(core.read_model(content), "CPU", settings)
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot read the file: {error}") from error

    known = set().union(*(port.get_names() for port in request.inputs))  # without unused ones

    def run(inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        found = request({name: array for name, array in inputs.items() if name in known})
        return tuple(found[name] for name in OUTPUTS)

    return run


def torch_runner(content: bytes, threads: int | None = None) -> Run:
    """Runs a torch.export file; torch itself has the number of threads."""
    module = torch.export.load(io.BytesIO(content)).module()

    def run(inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(x) for x in inputs.values()))
        return tuple(x.numpy() for x in outputs)

    return run


RUNTIMES: dict[str, Callable[..., Run]] = {
    "onnxruntime": onnxruntime_runner,
    "openvino": openvino_runner,
    "torch": torch_runner,
}
