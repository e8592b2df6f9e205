"""Data loaders for training and for inference."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..structures import Vocabulary
from .image_level.alternation import (
    AlternatingBatchSampler,
    AlternatingDataset,
    AlternatingLoader,
    ImageLevelBatches,
)
from .image_sizes import check_sizes
from .records import Records, categories_of, sizes_of
from .registration import dataset_vocabulary, registered_records
from .samplers import (
    ClassAwareOrder,
    EpochOrder,
    RepeatFactorOrder,
    SharesOrder,
    StreamBatchSampler,
    UniformOrder,
    repeat_factors,
)
from .streams import Mapper, StreamDataset
from .text_records import RecordsOfSets, TextRecords

logger = logging.getLogger(__name__)

AnyRecords = Sequence[Mapping[str, Any]] | Dataset


class _MappedDataset(Dataset):
    """Maps records by their index."""

    def __init__(self, records: Dataset, mapper: Mapper) -> None:
        self.records = records
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.mapper(self.records[index])


def _own_generator(seed: int) -> torch.Generator:
    """Keeps `DataLoader` from drawing its base seed from the global generator."""
    return torch.Generator().manual_seed(seed)


def _as_list(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return batch


def _shared(dataset: AnyRecords) -> Dataset:
    """A list as a dataset whose storage worker processes share; a `Dataset` as it is."""
    if not len(dataset):
        raise ValueError("the dataset is empty")
    if isinstance(dataset, Dataset):
        return dataset
    return DatasetFromList(list(dataset), copy=False, serialize=True)


def _in_vocabulary(name: str, records: Records, vocabulary: Vocabulary) -> Records:
    own = dataset_vocabulary(name).dataset_ids
    if own == vocabulary.dataset_ids:
        return records
    vocab_id_of = vocabulary.vocab_id_of
    if lacking := [dataset_id for dataset_id in own if dataset_id not in vocab_id_of]:
        raise ValueError(
            f"the vocabulary of {len(vocabulary)} categories lacks {len(lacking)} of the "
            f"{len(own)} category ids of dataset {name!r}: {lacking[:10]}"
        )
    return records.in_vocabulary(np.asarray([vocab_id_of[one] for one in own], dtype=np.int32))


def get_training_records(
    names: str | Sequence[str],
    filter_empty: bool = True,
    vocabulary: Vocabulary | None = None,
) -> Records:
    """The records of datasets registered here, without crowd boxes.

    Args:
        names: one or several datasets.
        filter_empty: whether images left without boxes are dropped.
        vocabulary: what 'category_id' refers to; it must have the categories of all datasets.
            By default `dataset_vocabulary` of the names.

    Returns:
        The records; what was dropped is logged.

    Raises:
        ValueError: no record is left, the vocabulary lacks categories, or images have another
            size than their annotations say.
        FileNotFoundError: a file is missing.
    """
    names = [names] if isinstance(names, str) else list(names)
    vocabulary = dataset_vocabulary(names) if vocabulary is None else vocabulary
    given = Records.concatenate(
        _in_vocabulary(name, registered_records(name), vocabulary) for name in names
    )
    records = given.without_crowd()
    crowd = len(given.categories().indices) - len(records.categories().indices)
    if filter_empty:
        records = records.with_boxes()
    logger.info(
        "%s: %d training images; dropped %d images without boxes, %d crowd boxes",
        ", ".join(names),
        len(records),
        len(given) - len(records),
        crowd,
    )
    if not len(records):
        raise ValueError(
            f"no training image in {names}: {len(given)} images listed"
            + (", none with a box" if filter_empty and len(given) else "")
        )
    check_sizes(records)
    return records


def get_test_records(names: str) -> AnyRecords:
    """The records of a registered dataset as they are, images without boxes included.

    Raises:
        ValueError: no such dataset is registered, it has no image, or images have another size
            than their annotations say.
    """
    if names not in DatasetCatalog:
        raise ValueError(
            f"dataset {names!r} is not registered. A config.yaml does not register datasets: "
            "use the Python config that does, or call register_coco_like first"
        )
    records = DatasetCatalog.get(names)
    if not len(records):
        raise ValueError(f"dataset {names!r} has no images")
    if isinstance(records, Records | TextRecords):
        check_sizes(records)
    return records


def _order_by_shares(
    dataset: AnyRecords, sampler: str, shares: Mapping[str, float], seed: int
) -> SharesOrder:
    if not isinstance(dataset, RecordsOfSets) or sampler != "uniform":
        raise ValueError(
            "shares are those of the sets of get_prompted_training_records, drawn uniformly; got "
            f"{type(dataset).__name__} and the sampler {sampler!r}"
        )
    sizes = dataset.set_sizes()
    if shares.keys() != sizes.keys():
        raise ValueError(
            f"every dataset needs a share: the sets are {', '.join(sizes)}, the shares are of "
            f"{', '.join(shares)}"
        )
    return SharesOrder(
        sizes=list(sizes.values()), shares=[shares[name] for name in sizes], seed=seed
    )


def _epoch_order(
    sampler: str,
    dataset: AnyRecords,
    threshold: float,
    seed: int,
    shares: Mapping[str, float] | None,
) -> EpochOrder:
    if shares is not None:
        return _order_by_shares(dataset, sampler, shares, seed)
    if sampler == "uniform":
        return UniformOrder(size=len(dataset), seed=seed)
    if sampler == "repeat_factor":
        factors = repeat_factors(categories_of(dataset), threshold)
        return RepeatFactorOrder(repeat_factors=factors, seed=seed)
    if sampler == "class_aware":
        return ClassAwareOrder(categories=categories_of(dataset), seed=seed)
    raise ValueError(
        f"sampler must be 'uniform', 'repeat_factor' or 'class_aware', got {sampler!r}"
    )


def _check_mosaic(mosaic: float, dataset: AnyRecords) -> None:
    if not 0 <= mosaic <= 1:
        raise ValueError(f"mosaic is the share of mosaics, 0..1, got {mosaic}")
    if mosaic and isinstance(dataset, RecordsOfSets):
        dataset.categories()  # refuses sets that cannot share an image


def _orientations(dataset: AnyRecords) -> np.ndarray:
    """(records,) 1 for an image wider than high, else 0."""
    height, width = sizes_of(dataset).T
    return (width > height).astype(np.int8)


def _samples(
    dataset: AnyRecords, mapper: Mapper, seed: int, mosaic: float, replace_unreadable: bool
) -> StreamDataset:
    _check_mosaic(mosaic, dataset)
    return StreamDataset(
        _shared(dataset), mapper, seed, mosaic, replace_unreadable=replace_unreadable
    )


def _batch_sampler(
    order: EpochOrder, total_batch_size: int, start_iter: int, groups: np.ndarray | None = None
) -> StreamBatchSampler:
    return StreamBatchSampler(
        order=order,
        total_batch_size=total_batch_size,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        start_iter=start_iter,
        groups=groups,
    )


def _alternating_loader(
    samples: StreamDataset,
    batches: StreamBatchSampler,
    image_level: ImageLevelBatches,
    seed: int,
    start_iter: int,
    options: Mapping[str, Any],
) -> AlternatingLoader:
    """Batches of images with boxes, and those of image-level images in their turn."""
    given, turns, seed = image_level, image_level.turns, image_level.seed(seed)
    labelled = _samples(given.dataset, given.mapper, seed, given.mosaic, given.replace_unreadable)
    order = _epoch_order(given.sampler, given.dataset, given.repeat_threshold, seed, None)
    others = _batch_sampler(order, given.total_batch_size, turns.before(start_iter)[1])
    return AlternatingLoader(
        turns=turns,
        dataset=AlternatingDataset(samples, labelled),
        batch_sampler=AlternatingBatchSampler(
            boxes=batches, image_level=others, turns=turns, start_iter=start_iter
        ),
        **options,
    )


def at_most_a_worker_a_core(num_workers: int) -> int:
    """The batches are the same; more workers than cores would only be in each other's way."""
    return min(num_workers, len(os.sched_getaffinity(0)))


def build_train_loader(
    *,
    dataset: AnyRecords,
    mapper: Mapper,
    total_batch_size: int,
    sampler: str = "uniform",
    num_workers: int = 2,
    seed: int = 0,
    start_iter: int = 0,
    repeat_threshold: float = 0.001,
    aspect_ratio_grouping: bool = False,
    mosaic: float = 0.0,
    shares: Mapping[str, float] | None = None,
    replace_unreadable: bool = False,
    image_level: ImageLevelBatches | None = None,
) -> Iterable[list[dict[str, Any]]]:
    """An endless stream of this process's batches.

    Which samples make up global batch ``i``, and how each is augmented, depends on the seed and
    ``i`` only: not on the number of processes or workers, nor on where the run was resumed.

    Args:
        dataset: records (`get_training_records`) or a `torch.utils.data.Dataset` of records.
        mapper: makes the detector's input of a record; draws from the global generators.
        total_batch_size: images per step over all processes.
        sampler: 'uniform'; 'repeat_factor' (LVIS: images of rare categories several times per
            epoch); 'class_aware' (every category equally often).
        num_workers: worker processes of this process, at most one a core; 0 loads in the process
            itself.
        seed: decides order and augmentation; the same in all processes.
        start_iter: the first step to deliver.
        repeat_threshold: of 'repeat_factor': the share of images below which a category is rare.
        aspect_ratio_grouping: whether wide and high images go to different global batches, which
            saves padding.
        mosaic: share of the samples that are made of four records, the sample's own and three
            drawn uniformly; the mapper gets these as a list.
        shares: of each set of `get_prompted_training_records` in an epoch, relative to the others.
        replace_unreadable: see `StreamDataset`; else an image that cannot be read ends the run.
        image_level: further images, which have a label and no box; their batches take turns with
            the others, each kind from a stream of its own. Epochs are those of ``dataset``.

    Returns:
        An iterable over lists of the mapper's dicts.

    Raises:
        ValueError: an empty dataset, an unknown sampler, a share outside 0..1 or of another set,
            mosaics of sets without common categories, or a batch size that cannot be shared evenly.
    """
    samples = _samples(dataset, mapper, seed, mosaic, replace_unreadable)
    start = start_iter if image_level is None else image_level.turns.before(start_iter)[0]
    groups = _orientations(dataset) if aspect_ratio_grouping else None
    order = _epoch_order(sampler, dataset, repeat_threshold, seed, shares)
    batches = _batch_sampler(order, total_batch_size, start, groups)
    workers = at_most_a_worker_a_core(num_workers)
    options = dict(num_workers=workers, collate_fn=_as_list, generator=_own_generator(seed))
    if image_level is None:
        return DataLoader(samples, batch_sampler=batches, **options)
    return _alternating_loader(samples, batches, image_level, seed, start_iter, options)


def build_test_loader(
    *, dataset: AnyRecords, mapper: Mapper, num_workers: int = 2, batch_size: int = 1
) -> DataLoader:
    """Every record once, in order; each process takes a contiguous part.

    Args:
        dataset: records or a `torch.utils.data.Dataset` of records.
        mapper: makes the detector's input of a record.
        num_workers: worker processes of this process, at most one a core; 0 loads in the process
            itself.
        batch_size: images per batch of this process; the last may be smaller.

    Returns:
        A loader of lists of the mapper's dicts.

    Raises:
        ValueError: an empty dataset.
    """
    records = _shared(dataset)
    return DataLoader(
        _MappedDataset(records, mapper),
        batch_size=batch_size,
        sampler=InferenceSampler(len(records)),
        num_workers=at_most_a_worker_a_core(num_workers),
        collate_fn=_as_list,
        generator=_own_generator(0),
        drop_last=False,
    )
