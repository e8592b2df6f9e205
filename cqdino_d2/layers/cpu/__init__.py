"""What only makes CPUs faster and changes nothing else; docs/benchmarks/cpu.md has what each gains.

The model code is plain PyTorch. `accelerate_for_cpu` changes a finished model from outside.
"""

from .attention import CpuCrossAttention
from .chunks import ChunkedFeedForward, in_chunks
from .dropout import Dropout, dropout
from .forms import accelerate_for_cpu, form_of
from .onednn import Linear, batched_linear, linear, takes_onednn

__all__ = [
    "ChunkedFeedForward",
    "CpuCrossAttention",
    "Dropout",
    "Linear",
    "accelerate_for_cpu",
    "batched_linear",
    "dropout",
    "form_of",
    "in_chunks",
    "linear",
    "takes_onednn",
]
