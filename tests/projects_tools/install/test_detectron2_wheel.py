import ast
import base64
import hashlib
import importlib.util
import io
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[3] / "projects_tools/install/detectron2_wheel.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("detectron2_wheel", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny_sdist(tmp_path):
    files = {
        "LICENSE": "the licence",
        "setup.py": "raise RuntimeError('not installed')",
        "detectron2/__init__.py": '__version__ = "0.6"\n',
        "detectron2/masks.py": "import numpy as np\nx = np.zeros(2, np.bool)\ny = np.bool_(1)\n",
        "detectron2/model_zoo/configs/a.yaml": "A: 1\n",
        "projects/DeepLab/deeplab/__init__.py": "",
        "tools/train.py": "",
    }
    path = tmp_path / "tiny-0.6.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"tiny-0.6/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def use_tiny_sdist(tool, monkeypatch, path, patches):
    monkeypatch.setattr(tool, "SDIST_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(tool.patch_sources, "__defaults__", (patches,))


def test_builds_an_installable_wheel(tool, tiny_sdist, tmp_path, monkeypatch):
    patch = tool.Patch("detectron2/masks.py", r"\bnp\.(bool|int)\b", r"\1")
    use_tiny_sdist(tool, monkeypatch, tiny_sdist, (patch,))
    out = tmp_path / "wheels"

    assert tool.main(["--output", str(out), "--sdist", str(tiny_sdist)]) == 0

    assert [path.name for path in out.iterdir()] == [tool.WHEEL_NAME]
    with zipfile.ZipFile(out / tool.WHEEL_NAME) as wheel:
        names = set(wheel.namelist())
        assert {"detectron2/model_zoo/configs/a.yaml", "detectron2/_C.py"} <= names
        assert "detectron2/projects/deeplab/__init__.py" in names
        assert not any("setup.py" in name or "train.py" in name for name in names)
        text = wheel.read("detectron2/masks.py").decode()
        assert "np.zeros(2, bool)" in text
        assert "np.bool_(1)" in text
        assert b"Name: detectron2\nVersion: 0.6+cqdino1\n" in wheel.read(
            f"{tool.DIST_INFO}/METADATA"
        )
        record = wheel.read(f"{tool.DIST_INFO}/RECORD").decode().splitlines()
        assert {line.rsplit(",", 2)[0] for line in record} == names
        for line in record:
            path, digest, size = line.rsplit(",", 2)
            if digest:
                content = wheel.read(path)
                expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
                assert digest == "sha256=" + expected.rstrip(b"=").decode()
                assert int(size) == len(content)


def test_same_archive_gives_the_same_bytes(tool, tiny_sdist, tmp_path):
    sources = tool.patch_sources(tool.read_sources(tiny_sdist), ())
    first = tool.write_wheel(sources, tmp_path / "a").read_bytes()
    reordered = dict(reversed(sources.items()))
    assert tool.write_wheel(reordered, tmp_path / "b").read_bytes() == first


def test_wrong_hash_is_refused_and_leaves_nothing(tool, tiny_sdist, tmp_path, capsys):
    out = tmp_path / "wheels"
    assert tool.main(["--output", str(out), "--sdist", str(tiny_sdist)]) == 1
    assert tool.SDIST_SHA256 in capsys.readouterr().err
    assert not out.exists()


def test_missing_archive_is_named(tool, tmp_path, capsys):
    missing = tmp_path / "nowhere.tar.gz"
    assert tool.main(["--output", str(tmp_path / "wheels"), "--sdist", str(missing)]) == 1
    assert str(missing) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "pattern", "count", "complaint"),
    [
        ("detectron2/gone.py", "x", 1, "no such file"),
        ("detectron2/masks.py", "nothing like it", 1, "matched 0 times, expected 1"),
        ("detectron2/masks.py", r"np\.bool", 1, "matched 2 times, expected 1"),
    ],
)
def test_patch_that_does_not_fit_is_refused(
    tool, tiny_sdist, tmp_path, monkeypatch, path, pattern, count, complaint
):
    use_tiny_sdist(tool, monkeypatch, tiny_sdist, (tool.Patch(path, pattern, "", count),))
    with pytest.raises(ValueError, match=complaint):
        tool.build_wheel(tmp_path / "wheels", tiny_sdist)
    assert not (tmp_path / "wheels").exists()


def test_failed_write_leaves_nothing(tool, tmp_path, monkeypatch):
    def disk_is_full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", disk_is_full)
    with pytest.raises(OSError, match="No space left"):
        tool.write_wheel({"detectron2/__init__.py": b""}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_stub_raises_only_when_called(tool):
    ast.parse(tool.EXTENSION_STUB)
    stub = types.ModuleType("detectron2._C")
    exec(tool.EXTENSION_STUB, stub.__dict__)
    operation = stub.box_iou_rotated
    with pytest.raises(ImportError, match=r"_C\.box_iou_rotated .* pure-Python build"):
        operation(1, key=2)
    assert not hasattr(stub, "__wrapped__")
    assert "pure-Python" in stub.get_compiler_version()
    assert not stub.has_cuda()
