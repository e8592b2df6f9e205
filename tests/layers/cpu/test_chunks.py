import pytest
import torch

from cqdino_d2.layers import FeedForward, accelerate_for_cpu, in_chunks
from cqdino_d2.layers.cpu import chunks


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK_ELEMENTS", 60)


def test_rows_are_taken_in_pieces_without_gradients(small_chunks):
    seen = []

    def double(x):
        seen.append(x.shape[:-1].numel())
        return torch.cat([x, x], dim=-1)

    x = torch.randn(2, 5, 4)
    with torch.no_grad():
        found = in_chunks(double, x, width=20)
    assert seen == [3, 3, 3, 1]
    assert torch.equal(found, torch.cat([x, x], dim=-1))
    in_chunks(double, x, width=20)
    assert seen[4:] == [10]


def test_a_feed_forward_block_is_the_same_in_pieces(small_chunks):
    torch.manual_seed(0)
    block = FeedForward(dim=6, hidden_dim=20).eval()
    x = torch.randn(3, 7, 6)
    expected = block(x)
    accelerate_for_cpu(block)
    calls = []
    block.expand.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)
    assert len(calls) == 7
