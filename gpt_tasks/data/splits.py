"""Make train, validation and test of what the user gives: stratified, seeded, labels settled, free of leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from gpt_tasks.data.draws import stratified_sample, stratified_split
from gpt_tasks.data.examples import Examples, store_examples
from gpt_tasks.data.in_memory import InMemory
from gpt_tasks.data.invalid import refuse_invalid
from gpt_tasks.data.leaks import among, notes_on
from gpt_tasks.data.oddities import empty_answers, label_counts, merged_labels, odd_labels, untested_labels
from gpt_tasks.data.sources import LOOKED_AT, Source, open_source
from gpt_tasks.data.split_names import ALL, SPLITS
from gpt_tasks.data.stream import Stream, fitted, stream_examples
from gpt_tasks.data.trial import Reading, in_proportion
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.extensions import Reader
from gpt_tasks.tasks.base import Task


@dataclass(frozen=True, eq=False)
class Splits:
    """The data of one training, and the task with what the data settles: the labels of a classification.

    `duplicates` counts, by split, the rows left out because another split holds their text; `notes` are sentences
    for the user about what was done to the data.
    """

    task: Task
    train: Examples
    validation: Examples
    test: Examples
    duplicates: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """A hash of the content of all three splits."""
        parts = (self.train.fingerprint, self.validation.fingerprint, self.test.fingerprint)
        return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()


def load_splits(
    task: Task,
    *,
    data: str | Path | InMemory | None,
    validation: str | Path | InMemory | None = None,
    test: str | Path | InMemory | None = None,
    columns: Mapping[str, str] | None = None,
    by: str | None = None,
    limit: int | None = None,
    encoding: str | None = None,
    skip_invalid: bool = False,
    limit_validation: int | None = None,
    limit_test: int | None = None,
    seed: int,
    private: bool = False,
    schemes: Mapping[str, Reader],
    scratch: Path,
) -> Splits:
    """Read, type and split the data of a training. `data` None means the task's embedded samples.

    A split that is not given is drawn from train: a tenth of each label, of at most 10,000 rows in all. Rows of equal
    text (ignoring white space, not case) never appear in two splits. `limit` caps the rows of train, keeping the shares
    of the labels, and the other splits in proportion, unless `limit_validation` or `limit_test` says how many of theirs
    count; of a long source it reads the first rows only (see `trial`). Text files are in `encoding`, where it is given.
    Tables are written under `scratch`, which must outlive the examples. Raises DataError, naming the first rows, where
    some cannot be used; with `skip_invalid` they are left out. `private`
    notes quote nothing of them.
    """
    spec = data if data is not None else task.samples()
    if spec is None:
        raise UsageError(f"The task '{task.name}' has no embedded samples", "Give it data: --data FILE")
    if encoding is not None and data is validation is test is None:
        raise UsageError(f"--encoding {encoding} has no effect: it is for --data", "Leave it out.")
    source = open_source(spec, schemes, None if data is None else encoding)
    whole = "train" if "train" in source.splits else ALL
    if whole not in source.splits:
        raise DataError(
            f"{source.name}: it holds {' and '.join(source.splits)}, but nothing to train on",
            "Add a train file, or give --data the one to train on.",
        )
    sources = {whole: source}
    notes = list(source.notes)
    for split, given in (("validation", validation), ("test", test)):
        if given is not None:
            sources[split] = open_source(given, schemes, encoding)
            notes += sources[split].notes
        elif split in source.splits:
            if split == "test" and not _is_labelled(task, source, split, columns or {}):
                notes.append(f"The test split of {source.name} has no labels: another is drawn from train.")
            else:
                sources[split] = source

    found: dict[str, Examples] = {}
    streams: dict[str, Stream] = {}
    for split in SPLITS:
        if split not in sources and split != "train":
            continue
        of, part = (source, whole) if split == "train" else (sources[split], choose_split(sources[split], split))
        streams[split] = stream = stream_examples(
            task,
            of,
            part,
            columns=columns or {},
            by=by,
            need_labels=True,
            to_learn=split == "train",
            skip_invalid=skip_invalid,
        )
        reading = Reading(stream.examples(), task, limit, only=len(sources) == 1)
        found[split] = store_examples(reading, scratch)
        if reading.stopped:
            notes.append(f"Read the first {len(found[split]):,} rows of {of.name} (--limit).")
        _same_fields(found["train"], found[split])
        if split == "train":
            # What the training data settle decides where another file could be read in several ways.
            task = stream.task
    task = fitted(task, [found["train"]], source.name, streams.values())
    notes += merged_labels(task, found) if task.normalize_labels else []
    found = {split: streams[split].normalized(task, examples) for split, examples in found.items()}
    refuse_invalid(stream.error for stream in streams.values())
    notes += chain.from_iterable(stream.notes(private=private) for stream in streams.values())
    notes += _oddities(task, found)
    splits = _without_leaks(task, found, source.name, seed, list(dict.fromkeys(notes)))
    splits = _limited(splits, limit, {"validation": limit_validation, "test": limit_test}, seed)
    untested = untested_labels(label_counts(task, splits.train), label_counts(task, splits.test), "test")
    return replace(splits, notes=(*splits.notes, *untested))


def load_examples(
    task: Task,
    source: Source,
    split: str,
    *,
    columns: Mapping[str, str] | None = None,
    by: str | None = None,
    cluster: str | None = None,
    skip_invalid: bool = False,
    scratch: Path,
) -> tuple[Examples, tuple[str, ...]]:
    """Read one labelled split for a trained task, in its order and whole, with notes for the user.

    Raises DataError, naming the first rows, where some cannot be used; with `skip_invalid` they are left out.
    """
    stream = stream_examples(
        task,
        source,
        split,
        columns=columns or {},
        by=by,
        cluster=cluster,
        need_labels=True,
        skip_invalid=skip_invalid,
    )
    examples = store_examples(stream.examples(), scratch)
    merged = merged_labels(task, {split: examples}) if task.normalize_labels else []
    examples = stream.normalized(task, examples)
    stream.check()
    return examples, (*stream.notes(), *merged)


def choose_split(source: Source, split: str | None) -> str:
    """Return the split to read: the named one, or the one split `all`; for None test comes first.

    Raises UsageError where the source has no such split.
    """
    if ALL in source.splits and split in (None, *SPLITS, ALL):
        return ALL
    if split is None:
        split = next((name for name in ("test", "validation") if name in source.splits), None)
    if split is None or split not in source.splits:
        lacking = f"no split '{split}'" if split else "neither a test nor a validation split"
        raise UsageError(
            f"{source.name} has {lacking}; it has {', '.join(source.splits)}",
            "Name one of them, or give the file of the rows that are meant.",
        )
    return split


def _without_leaks(task: Task, found: dict[str, Examples], name: str, seed: int, notes: list[str]) -> Splits:
    train = found["train"]
    wanted = [split for split in SPLITS[1:] if split not in found]
    if wanted:
        drawn, copies = stratified_split(train.keys, _strata(task, train), wanted, np.random.default_rng([seed, 0]))
        for split in wanted:
            if not len(drawn[split]):
                raise DataError(
                    f"{name}: {len(train)} rows are too few to draw a {split} split from",
                    f"Give at least {len(wanted) + 1} different texts"
                    f"{' of a label' if task.is_stratified else ''}, or a file with --{split}.",
                )
            found[split] = train.subset(drawn[split])
        found["train"] = train.subset(drawn["train"])
        sizes = ", ".join(f"{split} {len(found[split]):,}" for split in SPLITS)
        how = ", stratified by label" if task.is_stratified else ""
        notes.append(f"Drew {' and '.join(wanted)} from train{how}: {sizes} rows.")
        if copies:
            notes.append(f"{copies:,} rows repeat the text of another; each stayed in the same split as that one.")
    # Rows that validation and test share stay in test, so that test changes as little as possible.
    duplicates = {
        "validation": _leave_out(found, "validation", ("train", "test"), notes),
        "test": _leave_out(found, "test", ("train",), notes),
    }
    return Splits(task, found["train"], found["validation"], found["test"], duplicates, tuple(notes))


def _limited(splits: Splits, limit: int | None, others: Mapping[str, int | None], seed: int) -> Splits:
    """Take no more than `limit` rows of train; of each other split as many as said, or else in proportion."""
    whole = {split: getattr(splits, split) for split in SPLITS}
    share = 1.0 if limit is None else min(1.0, limit / len(splits.train))
    sizes = {"train": limit}
    for split, said in others.items():
        kinds = len(whole[split].observed) if splits.task.is_stratified else 1
        sizes[split] = said if said is not None else in_proportion(len(whole[split]), share, kinds)
    found = dict(whole)
    for number, (split, size) in enumerate(sizes.items(), start=1):
        if size is not None and size < len(whole[split]):
            rng = np.random.default_rng([seed, number])
            rows = stratified_sample(_strata(splits.task, whole[split]), size, rng, split)
            found[split] = whole[split].subset(rows)
    notes = [
        f"{does} on {len(found[split]):,} of {len(whole[split]):,} rows ({flag})."
        for split, does, flag in (
            ("train", "Trains", "--limit"),
            ("validation", "Validates", "--limit-validation" if others["validation"] else "in proportion to --limit"),
            ("test", "Tests", "--limit-test" if others["test"] else "in proportion to --limit"),
        )
        if len(found[split]) < len(whole[split])
    ]
    return replace(splits, notes=(*splits.notes, *notes), **found)


def _strata(task: Task, examples: Examples) -> np.ndarray:
    """Return what a draw is stratified by, `[n]`: the targets where the task wants it, else nothing."""
    return examples.labels if task.is_stratified else np.zeros(len(examples), dtype=np.int32)


def _leave_out(found: dict[str, Examples], split: str, others: Sequence[str], notes: list[str]) -> int:
    examples = found[split]
    shared = np.zeros(len(examples), dtype=bool)
    for other in others:
        shared |= among(examples.keys, found[other].keys)
    count = int(shared.sum())
    if count == len(examples):
        raise DataError(
            f"Every row of {split} is in {' or '.join(others)} too, so that nothing is left to evaluate on",
            f"Give other rows with --{split}.",
        )
    if count:
        found[split] = examples.subset(np.flatnonzero(~shared))
        notes.append(f"Left out of {split}, as their text is in {' or '.join(others)} too: {count:,} of its rows.")
    return count


def _is_labelled(task: Task, source: Source, split: str, columns: Mapping[str, str]) -> bool:
    """Return whether one of a split's first rows has its target: many published test sets hide theirs."""
    first = islice(source.whole_rows(split), LOOKED_AT)
    return any(task.is_labelled(row, columns) for row in first)


def _oddities(task: Task, found: Mapping[str, Examples]) -> list[str]:
    """Return notes on labels, answers and rows that may not be what the user means."""
    notes = odd_labels(task, found)
    if not task.may_answer_nothing:
        notes += empty_answers(found)
    return [*notes, *(f"{split}: {note}" for split, examples in found.items() for note in notes_on(examples))]


def _same_fields(train: Examples, other: Examples) -> None:
    if set(train.fields) != set(other.fields):
        raise DataError(
            f"{other[0].where}: this split is read by {', '.join(other.fields)}, train by {', '.join(train.fields)}",
            "Give every split the same columns.",
        )
