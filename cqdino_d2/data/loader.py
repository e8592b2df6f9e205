"""Data loaders for training and for inference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from detectron2.data import DatasetCatalog, DatasetFromList
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from .registration import dataset_vocabulary, is_registered_here
from .samplers import (
    EpochOrder,
    RepeatFactorOrder,
    StreamBatchSampler,
    UniformOrder,
    repeat_factors,
)
from .seeding import seeded_generators

logger = logging.getLogger(__name__)

Mapper = Callable[[dict[str, Any]], dict[str, Any]]
Records = Sequence[dict[str, Any]] | Dataset


class _StreamDataset(Dataset):
    """Maps (position in the stream, record index); the randomness depends on (seed, position)."""

    def __init__(self, records: Dataset, mapper: Mapper, seed: int) -> None:
        self.records = records
        self.mapper = mapper
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        position, index = key
        with seeded_generators([self.seed, position]):
            return self.mapper(self.records[index])


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


def _shared(dataset: Records) -> Dataset:
    """A list as a data set whose storage worker processes share; a `Dataset` as it is."""
    if not len(dataset):
        raise ValueError("the data set is empty")
    if isinstance(dataset, Dataset):
        return dataset
    return DatasetFromList(list(dataset), copy=False, serialize=True)


def _without_crowd(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
    return {**record, "annotations": kept}


def _check_same_vocabulary(names: Sequence[str]) -> None:
    known = [name for name in names if is_registered_here(name)]
    for name in known[1:]:
        if dataset_vocabulary(name).dataset_ids != dataset_vocabulary(known[0]).dataset_ids:
            raise ValueError(f"data sets {known[0]!r} and {name!r} have different category ids")


def get_training_records(
    names: str | Sequence[str], filter_empty: bool = True
) -> list[dict[str, Any]]:
    """The records of registered data sets, without crowd boxes.

    Args:
        names: one or several data sets with the same categories.
        filter_empty: whether images left without boxes are dropped.

    Returns:
        Detectron2's list of dicts; what was dropped is logged.

    Raises:
        ValueError: no record is left, or the data sets have different categories.
    """
    names = [names] if isinstance(names, str) else list(names)
    _check_same_vocabulary(names)
    given = [record for name in names for record in DatasetCatalog.get(name)]
    records = [_without_crowd(record) for record in given]
    crowd = sum(len(record.get("annotations", ())) for record in given)
    crowd -= sum(len(record["annotations"]) for record in records)
    if filter_empty:
        records = [record for record in records if record["annotations"]]
    logger.info(
        "%s: %d training images; dropped %d images without boxes, %d crowd boxes",
        ", ".join(names),
        len(records),
        len(given) - len(records),
        crowd,
    )
    if not records:
        raise ValueError(
            f"no training image in {names}: {len(given)} images listed"
            + (", none with a box" if filter_empty and given else "")
        )
    return records


def get_test_records(names: str) -> list[dict[str, Any]]:
    """The records of a registered data set as they are, images without boxes included.

    Raises:
        ValueError: it has no image.
    """
    records = DatasetCatalog.get(names)
    if not records:
        raise ValueError(f"data set {names!r} has no images")
    return records


def _epoch_order(sampler: str, dataset: Records, threshold: float, seed: int) -> EpochOrder:
    if sampler == "uniform":
        return UniformOrder(size=len(dataset), seed=seed)
    if sampler == "repeat_factor":
        rows = [dataset[index] for index in range(len(dataset))]
        return RepeatFactorOrder(repeat_factors=repeat_factors(rows, threshold), seed=seed)
    raise ValueError(f"sampler must be 'uniform' or 'repeat_factor', got {sampler!r}")


def build_train_loader(
    *,
    dataset: Records,
    mapper: Mapper,
    total_batch_size: int,
    sampler: str = "uniform",
    num_workers: int = 2,
    seed: int = 0,
    start_iter: int = 0,
    repeat_threshold: float = 0.001,
) -> Iterable[list[dict[str, Any]]]:
    """An endless stream of this process's batches.

    Which samples make up global batch ``i``, and how each is augmented, depends on the seed and
    ``i`` only: not on the number of processes or workers, nor on where the run was resumed.

    Args:
        dataset: records (`get_training_records`) or a `torch.utils.data.Dataset` of records.
        mapper: makes the detector's input of a record; draws from the global generators.
        total_batch_size: images per step over all processes.
        sampler: 'uniform' or 'repeat_factor'.
        num_workers: worker processes of this process; 0 loads in the process itself.
        seed: decides order and augmentation; the same in all processes.
        start_iter: the first step to deliver.
        repeat_threshold: of 'repeat_factor': the share of images below which a category is rare.

    Returns:
        An iterable over lists of the mapper's dicts.

    Raises:
        ValueError: an empty data set, an unknown sampler, or a batch size that the processes
            cannot share evenly.
    """
    records = _shared(dataset)
    batches = StreamBatchSampler(
        order=_epoch_order(sampler, dataset, repeat_threshold, seed),
        total_batch_size=total_batch_size,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        start_iter=start_iter,
    )
    return DataLoader(
        _StreamDataset(records, mapper, seed),
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_list,
        generator=_own_generator(seed),
    )


def build_test_loader(
    *, dataset: Records, mapper: Mapper, num_workers: int = 2, batch_size: int = 1
) -> DataLoader:
    """Every record once, in order; each process takes a contiguous part.

    Args:
        dataset: records or a `torch.utils.data.Dataset` of records.
        mapper: makes the detector's input of a record.
        num_workers: worker processes of this process; 0 loads in the process itself.
        batch_size: images per batch of this process; the last may be smaller.

    Returns:
        A loader of lists of the mapper's dicts.

    Raises:
        ValueError: an empty data set.
    """
    records = _shared(dataset)
    return DataLoader(
        _MappedDataset(records, mapper),
        batch_size=batch_size,
        sampler=InferenceSampler(len(records)),
        num_workers=num_workers,
        collate_fn=_as_list,
        generator=_own_generator(0),
        drop_last=False,
    )
