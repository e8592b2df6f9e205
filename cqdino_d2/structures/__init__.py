"""Plain data that travels between the stages.

Shapes throughout the package: B images, T tokens over all levels, L levels, V vocabulary,
K selected categories, Q object queries, N denoising queries or boxes, C channels.
Index spaces: ``dataset_id`` (the id in a data set's JSON), ``vocab_id`` (0..V-1), ``slot_id``
(0..K-1 among the categories an image selected, -1 = not selected).
"""

from .atomic_file import CheckpointWriteError, write_atomically
from .categories import CategoryOffer, SelectedCategories
from .detections import DecoderOutput, DenoisingGroup, ImageTargets, Proposals
from .hierarchy import CategoryHierarchy, RaggedIndex, gather_rows
from .tensor_file import Discarded, read_tensor_file
from .tokens import ImageTokens
from .vocabulary import Vocabulary, load_vocabulary, random_vocabulary

__all__ = [
    "CategoryHierarchy",
    "CategoryOffer",
    "CheckpointWriteError",
    "DecoderOutput",
    "DenoisingGroup",
    "Discarded",
    "ImageTargets",
    "ImageTokens",
    "Proposals",
    "RaggedIndex",
    "SelectedCategories",
    "Vocabulary",
    "gather_rows",
    "load_vocabulary",
    "random_vocabulary",
    "read_tensor_file",
    "write_atomically",
]
