"""Files of tensors, read and mapped."""

import pytest
import torch

from cqdino_d2.files.tensor_file import read_tensor_file


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("mapped", [True, False])
def test_what_was_saved_is_read(tmp_path, zipped, mapped):
    content = {"weights": {"a": torch.arange(7.0)}, "iteration": 3}
    path = tmp_path / "model.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read_tensor_file(path, mapped=mapped)
    assert torch.equal(found["weights"]["a"], content["weights"]["a"])
    assert found["iteration"] == 3


@pytest.mark.parametrize("mapped", [True, False])
def test_only_what_is_mapped_follows_the_file(tmp_path, mapped):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.full((1000,), 3.0)}, path)
    found = read_tensor_file(path, mapped=mapped)["a"]
    old, new = (torch.full((1000,), x).numpy().tobytes() for x in (3.0, 5.0))
    content = path.read_bytes()
    assert content.count(old) == 1
    with open(path, "r+b") as file:
        file.write(content.replace(old, new))
    assert found.eq(5.0 if mapped else 3.0).all()


@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_that_is_cut_short_is_told(tmp_path, mapped):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.arange(1000.0)}, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match="cut short"):
        read_tensor_file(path, mapped=mapped)
