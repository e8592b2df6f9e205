"""Packaging of ``cqdino_d2``: pure Python, plus an extension where torch and sources are there."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
SOURCES = Path("cqdino_d2", "ops", "csrc")


def read_version() -> str:
    """Version of the package, read without importing it."""
    text = (ROOT / "cqdino_d2" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, flags=re.MULTILINE)
    if found is None:
        raise ValueError('cqdino_d2/__init__.py has no line __version__ = "..."')
    return found.group(1)


def extension_arguments() -> dict:
    """What ``setup`` needs to build the extension; nothing where it cannot be built.

    The package works without its extension (with the readable reference), so a missing torch or
    missing sources are no errors.
    """
    cpp = sorted(str(path.relative_to(ROOT)) for path in (ROOT / SOURCES).rglob("*.cpp"))
    if not cpp:
        return {}
    try:
        from torch.utils import cpp_extension
    except ImportError:
        return {}
    extension, sources = cpp_extension.CppExtension, cpp
    if cpp_extension.CUDA_HOME is not None:
        extension = cpp_extension.CUDAExtension
        sources = cpp + sorted(str(p.relative_to(ROOT)) for p in (ROOT / SOURCES).rglob("*.cu"))
    return {
        "ext_modules": [extension("cqdino_d2.ops._C", sources)],
        "cmdclass": {"build_ext": cpp_extension.BuildExtension},
    }


setup(
    name="cqdino_d2",
    version=read_version(),
    description="CQ-DINO for Detectron2: vast-vocabulary object detection with category queries",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["cqdino_d2*"]),
    package_data={"cqdino_d2.ops": ["csrc/**/*"]},
    # Detectron2 is needed too, but is not on the package index: projects_tools/install.sh.
    install_requires=[
        "torch>=2.4",
        "torchvision",
        "timm>=1.0",
        "fvcore",
        "hydra-core",
        "omegaconf>=2.1",
        "msgspec>=0.18",
        "pycocotools>=2.0.2",
        "numpy",
        "Pillow",
        "scipy",
        "tqdm",
    ],
    extras_require={"text": ["open_clip_torch", "transformers"]},  # category embeddings
    **extension_arguments(),
)
