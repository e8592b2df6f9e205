"""Packaging of ``cqdino_d2`` with its compiled parts ``_C`` (operators) and ``_evaluation``.

``_evaluation`` needs pybind11's headers alone, ``_C`` the torch it will run with: it is built where
torch can be imported (``pip install --no-build-isolation``). The package works without them, so
what hinders their build is a warning, unless ``CQDINO_REQUIRE_EXTENSION=1``.
``CQDINO_SKIP_EXTENSION=1`` leaves both out: a wheel is then one for any Python, as it is on
Windows, whose compiler the sources are not written for; ``=_C`` leaves out the operators.
The CUDA part is built where a toolkit for torch's CUDA is found;
``FORCE_CUDA=1`` makes its absence an error, ``FORCE_CUDA=0`` leaves it out. If only the CUDA part
fails to compile, the rest is built, unless one of these two asks for it. GPU architectures:
``TORCH_CUDA_ARCH_LIST``, else those of the visible GPUs, else DEFAULT_ARCHITECTURES.
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import BaseError, CCompilerError

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT / "cqdino_d2"
DEFAULT_ARCHITECTURES = "8.0+PTX"  # newer GPUs compile the PTX when they first meet it
# Every product is rounded: the same bits whatever instructions a compiler may fuse. What takes
# vectors is inlined, so how they would be passed does not matter (psabi).
CXX_FLAGS = "-O3 -g0 -ffp-contract=off -fno-trapping-math -fopenmp-simd -Wall -Wno-psabi"
REQUIRED = os.environ.get("CQDINO_REQUIRE_EXTENSION", "") not in ("", "0")
OPERATORS = "cqdino_d2._C"
SKIPPED = os.environ.get("CQDINO_SKIP_EXTENSION", "")  # "1" for both, or "_C"
BUILD_ERRORS = (BaseError, CCompilerError, RuntimeError, OSError, subprocess.CalledProcessError)


def read_version() -> str:
    """Version of the package, read without importing it."""
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, flags=re.MULTILINE)
    if found is None:
        raise ValueError('cqdino_d2/__init__.py has no line __version__ = "..."')
    return found.group(1)


def find_cuda_home() -> Path | None:
    """The folder of the CUDA toolkit; the nvcc on the PATH may be a wrapper in another folder."""
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    candidates = [Path(named)] if named else [Path("/usr/local/cuda")]
    nvcc = shutil.which("nvcc")
    if nvcc and not named:
        candidates.insert(0, Path(nvcc).resolve().parent.parent)
        command = [nvcc, "--dryrun", "-x", "cu", os.devnull]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        top = re.search(r"^#\$ TOP=(.+)$", told.stderr, flags=re.MULTILINE)
        if top:
            candidates.insert(0, Path(top.group(1)).resolve())
    parts = ("include/cuda_runtime.h", "bin/nvcc")
    return next((c for c in candidates if all((c / part).is_file() for part in parts)), None)


def cuda_problem(home: Path | None) -> str | None:
    """Why the CUDA part cannot be built with the toolkit in ``home``, or None."""
    import torch

    if home is None:
        return "no CUDA toolkit was found (set CUDA_HOME)"
    if torch.version.cuda is None:
        return "this torch is one without CUDA"
    told = subprocess.run([home / "bin/nvcc", "--version"], capture_output=True, text=True)
    found = re.search(r"release (\d+)\.", told.stdout)
    if found is None or found.group(1) != torch.version.cuda.split(".")[0]:
        return f"torch is for CUDA {torch.version.cuda}, and {home}/bin/nvcc is another version"
    return None


def with_cuda() -> bool:
    """Whether to build the CUDA part; sets up the environment for it."""
    force = os.environ.get("FORCE_CUDA", "")
    if force == "0":
        return False
    home = find_cuda_home()
    problem = cuda_problem(home)
    if problem is not None:
        if force:
            raise RuntimeError(f"FORCE_CUDA is set, but {problem}")
        warnings.warn(f"cqdino_d2 is built without its CUDA part: {problem}", stacklevel=1)
        return False
    import torch

    os.environ["CUDA_HOME"] = str(home)  # before cpp_extension makes its own guess
    if not torch.cuda.is_available():
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHITECTURES)
    return True


def is_cuda(source: str) -> bool:
    """CUDA sources and their C++ side lie in a folder ``cuda``."""
    return "cuda" in Path(source).parts


def make_build_command(base: type[build_ext]) -> type:
    """A build command, but a failure is a warning; without CUDA if only that fails."""

    class BuildOrWarn(base):
        def run(self) -> None:
            try:
                self.run_with_or_without_cuda()
            except BUILD_ERRORS as error:
                if REQUIRED:
                    raise
                message = f"cqdino_d2 is installed without its compiled extension: {error}"
                warnings.warn(message, stacklevel=1)

        def run_with_or_without_cuda(self) -> None:
            before = self.compiler, self.inplace  # run() replaces them by its own
            try:
                super().run()
            except BUILD_ERRORS as error:
                extension = next((e for e in self.extensions if e.name == OPERATORS), None)
                forced = REQUIRED or os.environ.get("FORCE_CUDA")
                if forced or extension is None or not any(map(is_cuda, extension.sources)):
                    raise
                warnings.warn(f"the CUDA part cannot be built: {error}", stacklevel=1)
                extension.sources = [s for s in extension.sources if not is_cuda(s)]
                extension.libraries = [name for name in extension.libraries if "cuda" not in name]
                self.compiler, self.inplace = before
                super().run()

    return BuildOrWarn


class BuildWithConfigs(build_py):
    """Copies the recipes into the package; a checkout has them next to it."""

    def run(self) -> None:
        """Builds; an editable install finds the recipes in the checkout."""
        super().run()
        if self.editable_mode:
            return
        for path in sorted((ROOT / "configs").rglob("*.py")):
            target = Path(self.build_lib, "cqdino_d2", path.relative_to(ROOT))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def extension_arguments() -> dict[str, Any]:
    """What ``setup`` needs to build the extensions that can be built here."""
    if SKIPPED not in ("", "0", "1", "_C"):
        raise ValueError(f"CQDINO_SKIP_EXTENSION is 1 or _C, got {SKIPPED!r}")
    if SKIPPED == "1" and REQUIRED:
        raise ValueError("CQDINO_SKIP_EXTENSION and CQDINO_REQUIRE_EXTENSION exclude each other")
    commands: dict[str, type] = {"build_py": BuildWithConfigs}
    if SKIPPED == "1" or sys.platform == "win32":
        return {"cmdclass": commands}
    binaries = runpy.run_path(str(PACKAGE / "extension.py"))
    extensions, base = matching_core(binaries["EVALUATION"]), build_ext
    if SKIPPED != "_C" and can_import_torch():
        extensions.append(operators(binaries["OPERATORS"]))  # says first where the toolkit is
        from torch.utils.cpp_extension import BuildExtension as base
    if not extensions:
        return {"cmdclass": commands}
    commands["build_ext"] = make_build_command(base)
    return {"ext_modules": extensions, "cmdclass": commands}


def can_import_torch() -> bool:
    """Whether the operators can be built; nothing else imports torch."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def matching_core(binary: Any) -> list[Extension]:
    """The extension for scoring; none where pybind11's headers are missing."""
    include = pybind11_headers()
    if include is None:
        message = "pybind11 is missing, for the matching core"
        if REQUIRED:
            raise RuntimeError(message)
        warnings.warn(f"cqdino_d2 is built without its compiled parts: {message}", stacklevel=1)
        return []
    return [
        Extension(
            **common_arguments(binary, cuda=False),
            include_dirs=[include],
            extra_compile_args=[*CXX_FLAGS.split(), "-std=c++17", "-fvisibility=hidden"],
            language="c++",
        )
    ]


def pybind11_headers() -> str | None:
    """The folder of pybind11's headers: of those that torch ships, else of its own package."""
    for name in ("torch", "pybind11"):
        spec = importlib.util.find_spec(name)
        folders = spec.submodule_search_locations if spec else None
        for folder in folders or ():
            if Path(folder, "include", "pybind11", "pybind11.h").is_file():
                return str(Path(folder, "include"))
    return None


def operators(binary: Any) -> Extension:
    """The extension for torch."""
    cuda = with_cuda()
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    return (CUDAExtension if cuda else CppExtension)(
        **common_arguments(binary, cuda),
        extra_compile_args={"cxx": CXX_FLAGS.split(), "nvcc": ["-O3"]},
    )


def common_arguments(binary: Any, cuda: bool) -> dict[str, Any]:
    """Name, sources and build tag of a ``Binary`` of extension.py."""
    sources = [path.relative_to(ROOT).as_posix() for path in binary.source_files()]
    return {
        "name": f"cqdino_d2.{binary.name}",
        "sources": [s for s in sources if s.endswith((".cpp", ".cu")) and (cuda or not is_cuda(s))],
        "define_macros": [("CQDINO_BUILD_TAG", f'"{binary.build_tag()}"')],
    }


# What `pip install .` brings is what scoring a file needs.
SCORING = [
    "numpy",
    'numpy>=2; sys_platform == "win32"',  # whose older one has integers of 32 bits
    "msgspec>=0.18",
    "psutil",
    "tqdm",
]
FOR_USE = {
    # Detectron2 is needed too, but is not on the package index: projects_tools/install.sh.
    "detector": [
        "torch>=2.4",
        "torchvision",
        "timm>=1.0",
        "fvcore",
        "hydra-core",
        "omegaconf>=2.1",
        "pycocotools>=2.0.2",
        "Pillow",
        "scipy",
    ],
    "text": ["open_clip_torch", "transformers"],  # category embeddings
    "parquet": ["pyarrow"],  # columnar results files
    "report": ["jinja2", "matplotlib", "Pillow"],  # pages and figures of results
    "export": ["onnx", "onnxruntime", "onnxscript", "openvino"],  # projects_tools/export.py
    "styles": ["resvg-py"],  # EmojiDet in other styles of artwork
    "demo": ["gradio>=6.31,<7"],  # the web page
    "serve": ["fastapi", "prometheus-client", "python-multipart", "uvicorn"],  # the HTTP API
}
setup(
    name="cqdino_d2",
    version=read_version(),
    description="CQ-DINO for Detectron2: vast-vocabulary object detection with category queries",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["cqdino_d2*"]),
    package_data={"cqdino_d2": ["csrc/**/*", "**/csrc/**/*", "py.typed", "reports/page_parts/*"]},
    entry_points={"console_scripts": ["cqdino-evaluate = cqdino_d2.reports.command:main"]},
    install_requires=SCORING,
    extras_require=FOR_USE
    | {
        "all": [package for packages in FOR_USE.values() for package in packages],
        "ray": ["ray[data]", "pyarrow"],  # very many images by several workers
        "docs": ["mkdocs-material", "mkdocstrings-python"],  # mkdocs build
        "dev": ["hypothesis", "mypy", "pre-commit", "pytest", "ruff"],
    },
    **extension_arguments(),
)
