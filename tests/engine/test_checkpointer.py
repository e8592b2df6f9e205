import resource

import pytest
import torch
from torch import nn

from cqdino_d2.engine import AtomicCheckpointer
from cqdino_d2.files import FileWriteError


def make_checkpointer(folder, width=4):
    model = nn.Sequential(nn.Linear(width, width), nn.Linear(width, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    return AtomicCheckpointer(model, str(folder), save_to_disk=True, optimizer=optimizer)


@pytest.fixture
def small_disk():
    """Lets no file grow beyond 20 kB: the kernel refuses the write, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_resume_takes_everything(tmp_path):
    first = make_checkpointer(tmp_path)
    first.model(torch.ones(1, 4)).sum().backward()
    first.checkpointables["optimizer"].step()
    first.save("model_0000004", iteration=4)
    second = make_checkpointer(tmp_path)
    assert second.resume() == 5
    for key, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key])
    state = second.checkpointables["optimizer"].state_dict()["state"]
    assert state[0]["step"] == 1
    assert make_checkpointer(tmp_path / "empty").resume() == 0


def test_full_disk_leaves_the_earlier_checkpoint(tmp_path, small_disk):
    make_checkpointer(tmp_path).save("model_0000004", iteration=4)
    big = make_checkpointer(tmp_path, width=200)
    for name in ("model_0000004", "model_0000009"):
        with pytest.raises(FileWriteError, match=rf"{name}\.pth.*too large.*MiB are free"):
            big.save(name, iteration=9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last_checkpoint", "model_0000004.pth"]
    assert make_checkpointer(tmp_path).resume() == 5


def test_other_config_is_named_by_its_keys(tmp_path):
    make_checkpointer(tmp_path).save("model_0000004", iteration=4)
    path = tmp_path / "model_0000004.pth"
    other = make_checkpointer(tmp_path, width=5)
    with pytest.raises(ValueError, match=r"0\.weight \(4, 4\) -> \(5, 5\)"):
        other.resume()
    with pytest.raises(ValueError, match="does not fit this config"):
        other.load_weights(path, strict=True)
    report = other.load_weights(path, strict=False)
    assert report.taken == ("1.bias",) and not report.complete
    larger = AtomicCheckpointer(nn.Sequential(*make_checkpointer(tmp_path).model, nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"2 missing in the checkpoint: 2\.bias, 2\.weight"):
        larger.load_weights(path, strict=True)
    smaller = AtomicCheckpointer(nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match=r"2 unknown to the model: 1\.bias, 1\.weight"):
        smaller.load_weights(path, strict=True)
    stranger = AtomicCheckpointer(nn.ModuleDict({"other": nn.Linear(1, 1)}))
    with pytest.raises(ValueError, match="0 weights fit"):
        stranger.load_weights(path, strict=False)


def test_bad_files(tmp_path):
    checkpointer = make_checkpointer(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        checkpointer.load_weights(tmp_path / "gone.pth", strict=True)
    checkpointer.save("whole", iteration=1)
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.pth cannot be read"):
        checkpointer.load_weights(tmp_path / "cut.pth", strict=True)
    torch.save({"model": {"0.weight": nn.Linear(1, 1)}}, tmp_path / "objects.pth")
    with pytest.raises(ValueError, match=r"object of type torch\S+Linear"):
        checkpointer.load_weights(tmp_path / "objects.pth", strict=True)
    torch.save({"model": checkpointer.model.state_dict()}, tmp_path / "weights.pth")
    checkpointer.tag_last_checkpoint("weights.pth")
    with pytest.raises(ValueError, match="holds 'model', but no iteration"):
        checkpointer.resume()
    checkpointer.tag_last_checkpoint("gone.pth")
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        checkpointer.resume()


def test_bare_weights_and_averages(tmp_path):
    checkpointer = make_checkpointer(tmp_path)
    state = checkpointer.model.state_dict()
    torch.save(state, tmp_path / "bare.pth")
    assert checkpointer.load_weights(tmp_path / "bare.pth", strict=True).complete
    average = {key: torch.full_like(value, 0.5) for key, value in state.items()}
    torch.save({"model": state, "ema": {"updates": 3, "weights": average}}, tmp_path / "ema.pth")
    checkpointer.load_weights(tmp_path / "ema.pth", strict=True, prefer_average=True)
    assert (checkpointer.model[0].weight == 0.5).all()
