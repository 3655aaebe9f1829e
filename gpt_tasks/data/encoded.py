"""Encoded examples: token ids in a file on disk, their lengths and labels in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt_tasks.data.examples import Examples
from gpt_tasks.files import machine_errors
from gpt_tasks.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label that counts in no loss."""

_BATCH = 1024
_TOKEN = np.dtype(np.int32)


@dataclass(frozen=True, eq=False)
class EncodedExamples:
    """Examples as a torch data set: each is {"input_ids": int32 `[length]`, "labels": its code, -100 if unknown}.

    The index `~i` gives example `i` with its label ignored. `lengths` is `[n]`, in tokens; `truncated` counts the
    examples that were cut to fit; `used_tokens` holds every token id that occurs, sorted.
    """

    path: Path
    lengths: np.ndarray
    labels: np.ndarray
    truncated: int
    starts: np.ndarray
    used_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return several examples, as torch's loader asks for a batch.

        The file is opened for each call, so that no handle is shared by processes that fork; and read rather than
        mapped, because a map takes 64 KB into this process's memory for every example that is touched.
        """
        examples = []
        with self.path.open("rb", buffering=0) as file:
            for index in indices:
                row = index if index >= 0 else ~index
                if row >= len(self):
                    raise IndexError(f"there is no example {index} among {len(self)}")
                file.seek(int(self.starts[row]) * _TOKEN.itemsize)
                input_ids = np.empty(self.lengths[row], dtype=_TOKEN)
                file.readinto(input_ids.data)
                examples.append({"input_ids": input_ids, "labels": int(self.labels[row]) if index >= 0 else IGNORED})
        return examples


def encode_examples(
    task: Task, examples: Examples, tokenizer: PreTrainedTokenizerBase, max_length: int, scratch: Path
) -> EncodedExamples:
    """Encode examples in at most `max_length` tokens each, into a file under `scratch`, some at a time.

    Raises DataError where the prompt alone is too long, MachineError where the disk is full.
    """
    lengths = np.zeros(len(examples), dtype=np.int32)
    truncated = row = 0
    used: set[int] = set()
    with machine_errors():
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(suffix=".tokens", dir=scratch, delete=False) as file:
            coming = iter(examples)
            while batch := list(islice(coming, _BATCH)):
                for encoded in task.encode(batch, tokenizer, max_length):
                    file.write(np.asarray(encoded.input_ids, dtype=_TOKEN).tobytes())
                    lengths[row] = len(encoded.input_ids)
                    truncated += encoded.truncated > 0
                    used.update(encoded.input_ids)
                    row += 1
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    labels = np.where(examples.labels < 0, IGNORED, examples.labels)
    return EncodedExamples(Path(file.name), lengths, labels, truncated, starts, np.array(sorted(used), dtype=np.int64))
