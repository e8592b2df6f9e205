"""Build a pure-Python Detectron2 0.6 wheel from a hash-checked source archive.

Detectron2 publishes no wheel, and its repository cannot be reached from everywhere. The package
index carries a copy of release 0.6 whose Python files equal upstream's, but without the C++
sources, so pip cannot install it. This tool checks the archive's hash, mends what has aged since
2021 (every patch must apply exactly as often as stated here), and writes a wheel that needs no
compiler. The wheel can be carried to a machine without a network:

    python projects_tools/install/detectron2_wheel.py --output wheels
    pip install --no-deps wheels/detectron2-*.whl

Rotated boxes, Detectron2's own deformable convolution and its fast COCO evaluator need the
compiled extension; in this build they say so when they are used.
"""

import argparse
import base64
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

SDIST_REQUIREMENT = "pb1-detectron2==0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
WHEEL_VERSION = "0.6+cqdino1"
WHEEL_NAME = f"detectron2-{WHEEL_VERSION}-py3-none-any.whl"
DIST_INFO = f"detectron2-{WHEEL_VERSION}.dist-info"

# Where a path of the source archive ends up in the wheel (as in upstream's setup.py).
INSTALLED_PREFIXES = {
    "detectron2/": "detectron2/",
    "projects/PointRend/point_rend/": "detectron2/projects/point_rend/",
    "projects/DeepLab/deeplab/": "detectron2/projects/deeplab/",
    "projects/Panoptic-DeepLab/panoptic_deeplab/": "detectron2/projects/panoptic_deeplab/",
}

REQUIREMENTS = (
    "cloudpickle fvcore hydra-core>=1.1 iopath>=0.1.7 matplotlib omegaconf>=2.1 Pillow>=9.1 "
    "pycocotools>=2.0.2 tabulate tensorboard termcolor>=1.1 tqdm yacs>=0.1.8"
).split()

EXTENSION_STUB = """# Stand-in for Detectron2's compiled extension: this is the pure-Python build.
IS_STUB = True


def get_compiler_version():
    return "none (pure-Python build)"


def get_cuda_version():
    return "none (pure-Python build)"


def has_cuda():
    return False


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def needs_compiled_extension(*args, **kwargs):
        raise ImportError(
            f"detectron2._C.{name} was called, but this Detectron2 is the pure-Python build and "
            "has no compiled extension. Rotated boxes, detectron2's deformable convolution and "
            "its fast COCO evaluator need one: install Detectron2 from its git repository."
        )

    return needs_compiled_extension
"""


@dataclass(frozen=True)
class Patch:
    """One textual change of one file.

    Attributes:
        path: file inside the wheel.
        pattern: regular expression for what is replaced.
        replacement: replacement, with group references as in ``re.sub``.
        count: how many places must match.
    """

    path: str
    pattern: str
    replacement: str
    count: int = 1

    def apply(self, sources: dict[str, bytes]) -> None:
        """Change the file in place.

        Raises:
            ValueError: the file is missing or the number of matches is not ``count``.
        """
        if self.path not in sources:
            raise ValueError(f"patch for {self.path}: the source archive has no such file")
        text, found = re.subn(self.pattern, self.replacement, sources[self.path].decode("utf-8"))
        if found != self.count:
            raise ValueError(
                f"patch for {self.path}: /{self.pattern}/ matched {found} times, "
                f"expected {self.count}"
            )
        sources[self.path] = text.encode("utf-8")


# Aliases of builtins that NumPy 1.24 removed: file -> number of places.
NUMPY_ALIASES = {
    "detectron2/data/build.py": 2,
    "detectron2/data/datasets/pascal_voc.py": 1,
    "detectron2/evaluation/pascal_voc_evaluation.py": 2,
    "detectron2/evaluation/sem_seg_evaluation.py": 7,
    "detectron2/structures/masks.py": 3,
    "detectron2/utils/video_visualizer.py": 1,
    "detectron2/utils/visualizer.py": 3,
}

PATCHES = (
    *(
        Patch(path, r"\bnp\.(bool|int|float|object|str)\b", r"\1", count)
        for path, count in NUMPY_ALIASES.items()
    ),
    # Pillow 10 removed the alias.
    Patch("detectron2/data/transforms/transform.py", r"Image\.LINEAR\b", "Image.BILINEAR"),
    # setuptools 81 removed pkg_resources.
    Patch("detectron2/model_zoo/model_zoo.py", r"import pkg_resources\n", ""),
    Patch(
        "detectron2/model_zoo/model_zoo.py",
        r'pkg_resources\.resource_filename\(\s*"detectron2\.model_zoo", '
        r'os\.path\.join\("configs", config_path\)\s*\)',
        'os.path.join(os.path.dirname(__file__), "configs", config_path)',
    ),
    # The fast evaluator is compiled; the plain one gives the same figures (as upstream's main).
    Patch(
        "detectron2/evaluation/coco_evaluation.py",
        r"from detectron2\.evaluation\.fast_eval_api import COCOeval_opt\n",
        "",
    ),
    Patch(
        "detectron2/evaluation/coco_evaluation.py",
        r"COCOeval_opt if use_fast_impl else COCOeval\b",
        "COCOeval",
    ),
)


def download_sdist(folder: Path) -> Path:
    """Fetch the source archive with pip, which checks its hash before it opens it.

    pip reads the archive's metadata, for which torch and setuptools must be importable here.

    Raises:
        RuntimeError: pip failed.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{SDIST_REQUIREMENT} --hash=sha256:{SDIST_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
    command += ["--dest", str(folder), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = sorted(folder.glob("*.tar.gz"))
    if done.returncode != 0 or len(archives) != 1:
        raise RuntimeError(
            f"pip could not download {SDIST_REQUIREMENT} (it needs the package index, and torch "
            f"and setuptools in this environment):\n{done.stdout}{done.stderr}"
        )
    return archives[0]


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file with its known hash.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the hash differs.
    """
    if not path.is_file():
        raise FileNotFoundError(f"source archive not found: {path}")
    received = hashlib.sha256(path.read_bytes()).hexdigest()
    if received != expected:
        raise ValueError(f"{path}: sha256 is {received}, expected {expected}; it is not used")


def read_sources(sdist: Path) -> dict[str, bytes]:
    """Read the files that get installed, keyed by their path inside the wheel."""
    sources: dict[str, bytes] = {}
    with tarfile.open(sdist) as archive:
        for member in archive:
            inner = member.name.partition("/")[2]
            extracted = archive.extractfile(member) if member.isfile() else None
            if extracted is None:
                continue
            if inner == "LICENSE":
                sources[f"{DIST_INFO}/licenses/LICENSE"] = extracted.read()
            for prefix, installed in INSTALLED_PREFIXES.items():
                if inner.startswith(prefix):
                    sources[installed + inner[len(prefix) :]] = extracted.read()
    return sources


def patch_sources(
    sources: dict[str, bytes], patches: tuple[Patch, ...] = PATCHES
) -> dict[str, bytes]:
    """Return a patched copy, with the stand-in for the compiled extension added.

    Raises:
        ValueError: a patch did not apply, or there is a ``detectron2/_C.py`` already.
    """
    patched = dict(sources)
    for patch in patches:
        patch.apply(patched)
    if "detectron2/_C.py" in patched:
        raise ValueError("the source archive has a detectron2/_C.py already")
    patched["detectron2/_C.py"] = EXTENSION_STUB.encode("utf-8")
    return patched


def wheel_metadata() -> dict[str, bytes]:
    """The wheel's own description files, without RECORD."""
    lines = ["Metadata-Version: 2.1", "Name: detectron2", f"Version: {WHEEL_VERSION}"]
    lines += ["Summary: Detectron2 0.6, pure-Python build patched for current NumPy and Pillow"]
    lines += ["License: Apache-2.0", "Requires-Python: >=3.10"]
    lines += [f"Requires-Dist: {requirement}" for requirement in REQUIREMENTS]
    wheel = "Wheel-Version: 1.0\nGenerator: detectron2_wheel\nRoot-Is-Purelib: true\n"
    return {
        f"{DIST_INFO}/METADATA": ("\n".join(lines) + "\n").encode("utf-8"),
        f"{DIST_INFO}/WHEEL": (wheel + "Tag: py3-none-any\n").encode("utf-8"),
        f"{DIST_INFO}/top_level.txt": b"detectron2\n",
    }


def write_wheel(sources: dict[str, bytes], output: Path) -> Path:
    """Write the wheel under a temporary name, then rename it, so that no half file is left.

    The same sources give the same bytes: entries are sorted and carry a fixed date.
    """
    files = {**sources, **wheel_metadata()}
    record = []
    for path, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(content)}")
    record.append(f"{DIST_INFO}/RECORD,,")
    output.mkdir(parents=True, exist_ok=True)
    target = output / WHEEL_NAME
    partial = output / f".{WHEEL_NAME}.{os.getpid()}.part"
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            entries = [*sorted(files.items()), (f"{DIST_INFO}/RECORD", "\n".join(record) + "\n")]
            for path, content in entries:
                info = zipfile.ZipInfo(path, date_time=(2021, 11, 15, 0, 0, 0))
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                archive.writestr(info, content)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def build_wheel(output: Path, sdist: Path | None = None) -> Path:
    """Build the wheel into ``output``, downloading the archive unless one is given.

    Returns:
        The wheel's path.
    """
    with tempfile.TemporaryDirectory(prefix="detectron2-sdist-") as scratch:
        archive = sdist if sdist is not None else download_sdist(Path(scratch))
        check_sha256(archive, SDIST_SHA256)
        return write_wheel(patch_sources(read_sources(archive)), output)


def main(argv: list[str] | None = None) -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description="Build the patched pure-Python Detectron2 wheel.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the wheel")
    parser.add_argument(
        "--sdist", type=Path, help=f"an archive of {SDIST_REQUIREMENT} already downloaded"
    )
    args = parser.parse_args(argv)
    try:
        wheel = build_wheel(args.output, args.sdist)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"detectron2_wheel: {error}", file=sys.stderr)
        return 1
    print(wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
