"""Encoded examples: token ids in a file on disk, their lengths and labels in memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt_tasks.data.examples import Examples
from gpt_tasks.files import machine_errors
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.headed import HeadTask

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label that counts in no loss."""

_BATCH = 1024
_TOKEN = np.dtype(np.int32)


@dataclass(frozen=True, eq=False)
class EncodedExamples:
    """Encodings as a torch data set.

    For a head each is {"sequences": a list of int32 `[length]`, mostly one, "goal": what it is to say, a number or
    `[outputs]`, "choices": where it has some, which one each sequence is about}. For a language model it is
    {"input_ids": int32 `[length]`, "labels": `[length]`, the token itself where it is to be learned and -100
    elsewhere}. The index `~i` gives encoding `i` with goal or labels of -100.

    `lengths` is `[n]`, in tokens of all sequences together. So is `labels`, the goals' rows in `goals`, which a
    language model has not. `learned` counts its tokens to be learned, `truncated` the examples that were cut to fit and
    `windowed` those that are read in parts; `used_tokens` holds every token id that occurs, sorted. `ends` tells of
    each example of several sequences where they end, `choices` of one that has choices what they are about.
    """

    path: Path
    lengths: np.ndarray
    labels: np.ndarray | None
    learned: int
    truncated: int
    starts: np.ndarray
    used_tokens: np.ndarray
    goals: np.ndarray | None = None
    windowed: int = 0
    ends: Mapping[int, Sequence[int]] = field(default_factory=dict)
    choices: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return several examples, as torch's loader asks for a batch.

        The file is opened for each call, so that no handle is shared by processes that fork; and read rather than
        mapped, because a map takes 64 KB into this process's memory for every example that is touched.
        """
        examples: list[dict[str, Any]] = []
        with self.path.open("rb", buffering=0) as file:
            for index in indices:
                row = index if index >= 0 else ~index
                if row >= len(self):
                    raise IndexError(f"there is no example {index} among {len(self)}")
                file.seek(int(self.starts[row]) * _TOKEN.itemsize)
                stored = np.empty(self.lengths[row], dtype=_TOKEN)
                file.readinto(stored.data)
                input_ids = np.where(stored < 0, ~stored, stored)
                if self.labels is None or self.goals is None:
                    labels = np.where((stored < 0) & (index >= 0), input_ids, IGNORED)
                    examples.append({"input_ids": input_ids, "labels": labels})
                    continue
                known = index >= 0 and self.labels[row] >= 0
                goal = self.goals[self.labels[row]] if known else np.full_like(self.goals[0], IGNORED)
                sequences = np.split(input_ids, self.ends.get(row, [0])[:-1])
                examples.append({"sequences": sequences, "goal": goal, "choices": self.choices.get(row, ())})
        return examples


def encode_examples(
    task: Task, examples: Examples, tokenizer: PreTrainedTokenizerBase, max_length: int, scratch: Path
) -> EncodedExamples:
    """Encode examples in at most `max_length` tokens each, into a file under `scratch`, some at a time.

    Raises DataError where the prompt alone is too long, MachineError where the disk is full.
    """
    lengths = array("i")
    truncated = learned = windowed = 0
    ends: dict[int, list[int]] = {}
    choices: dict[int, Sequence[int]] = {}
    used: set[int] = set()
    with machine_errors():
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(suffix=".tokens", dir=scratch, delete=False) as file:
            coming = iter(examples)
            while batch := list(islice(coming, _BATCH)):
                for encoded in task.encode(batch, tokenizer, max_length):
                    stored = np.asarray(encoded.input_ids, dtype=_TOKEN)
                    for start, end in encoded.learned:
                        # A token that is to be learned is stored as its complement, which is below zero.
                        stored[start:end] = ~stored[start:end]
                        learned += end - start
                    used.update(encoded.input_ids)
                    if encoded.others:
                        sequences = [encoded.input_ids, *encoded.others]
                        ends[len(lengths)] = list(accumulate(map(len, sequences)))
                        stored = np.concatenate([np.asarray(ids, dtype=_TOKEN) for ids in sequences])
                        used.update(*encoded.others)
                    if encoded.choices:
                        choices[len(lengths)] = encoded.choices
                    file.write(stored.tobytes())
                    lengths.append(len(stored))
                    truncated += encoded.truncated > 0
                    windowed += encoded.windows > 1
    sizes = np.frombuffer(lengths, dtype=np.int32)
    starts = np.cumsum(sizes, dtype=np.int64) - sizes
    labels = goals = None
    if isinstance(task, HeadTask):
        labels, goals = np.where(examples.labels < 0, IGNORED, examples.labels), task.goals(examples.label_names)
    tokens = np.array(sorted(used), dtype=np.int64)
    return EncodedExamples(
        Path(file.name), sizes, labels, learned, truncated, starts, tokens, goals, windowed, ends, choices
    )
