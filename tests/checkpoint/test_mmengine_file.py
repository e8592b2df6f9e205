import collections
import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from cqdino_d2.checkpoint import read_mmengine_file, weights_of
from cqdino_d2.files import Discarded


@pytest.fixture
def history_buffer(monkeypatch):
    """A class of the name and the content of mmengine's, which need not be installed."""

    class HistoryBuffer:
        def __init__(self):
            self._log_history = np.arange(4.0)
            self._mean = np.float64(3)

    HistoryBuffer.__module__ = "mmengine.logging.history_buffer"
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["mmengine.logging.history_buffer"].HistoryBuffer = HistoryBuffer
    return HistoryBuffer


@pytest.mark.parametrize("zipped", [True, False])
def test_mmengine_objects_are_discarded(tmp_path, history_buffer, zipped):
    path = tmp_path / "epoch_24.pth"
    weights = collections.OrderedDict(a=torch.ones(2))
    content = {
        "meta": {"epoch": 24, "cfg": "model = dict()"},
        "state_dict": weights,
        "message_hub": {"log_scalars": collections.OrderedDict(loss=history_buffer())},
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for name in [name for name in sys.modules if name.startswith("mmengine")]:
        del sys.modules[name]
    read = read_mmengine_file(path)
    assert isinstance(read["message_hub"]["log_scalars"]["loss"], Discarded)
    assert torch.equal(weights_of(read, path)["a"], torch.ones(2))
    assert not [name for name in sys.modules if name.startswith("mmengine")]


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Unknown:
    pass


@pytest.mark.parametrize("make", [Command, lambda path: Unknown(), lambda path: eval])
def test_other_objects_are_refused_and_not_run(tmp_path, make):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"state_dict": {"a": torch.ones(1)}, "x": make(trace)}, path)
    with pytest.raises(
        ValueError, match=r"evil\.pth holds an object of type \S*(system|Unknown|eval)"
    ):
        read_mmengine_file(path)
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_is_cut_short_is_named(tmp_path, zipped, share):
    path = tmp_path / "cut.pth"
    torch.save({"w": torch.rand(1000)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"cut\.pth"):
        read_mmengine_file(path)


def test_other_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        read_mmengine_file(tmp_path / "gone.pth")
    path = tmp_path / "x.pth"
    path.write_bytes(b"<html>404 not found</html>")
    with pytest.raises(ValueError, match=r"x\.pth"):
        read_mmengine_file(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match=r"x\.pth"):
        read_mmengine_file(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds a list, expected a dict"):
        read_mmengine_file(path)


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"a": torch.ones(1), "epoch": 3}])
def test_weights_must_be_tensors(content):
    with pytest.raises(ValueError, match=r"c\.pth is no checkpoint"):
        weights_of(content, "c.pth")
