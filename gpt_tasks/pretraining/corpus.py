"""Raw text becomes a tokenizer and memory-mapped shards of token ids.

The token stream of a corpus is `<eos> document <eos> document ... <eos>`: one end-of-text token both closes a document
and opens the next, so the end of a text is learned, and a model that is given only this token begins a new text.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel

from gpt_tasks.data.plain_text import END_OF_TEXT, Piece
from gpt_tasks.errors import DataError, MachineError
from gpt_tasks.files import atomic_path
from gpt_tasks.pretraining.texts import read_pieces
from gpt_tasks.saved_json import checked, read_json
from gpt_tasks.tasks.encoding import encode_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TOKENIZER_SAMPLE_CHARACTERS = 40_000_000
SHARD_TOKENS = 1 << 24
_AGAIN = "Remove the folder of shards, and continue with --resume: the text is tokenized again."


def train_tokenizer(files: Sequence[Path], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `vocab_size` entries, trained on at most 40 million characters of the files.

    Any text, and any bytes decoded from Latin-1, survives encoding and decoding. Raises DataError where the text
    cannot fill the vocabulary.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size <= len(alphabet):
        raise DataError(f"vocabulary of {vocab_size}: the 256 bytes and {END_OF_TEXT} alone are {len(alphabet) + 1}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_sample(read_pieces(files), TOKENIZER_SAMPLE_CHARACTERS), trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise DataError(
            f"vocabulary of {vocab_size}: the text fills only {tokenizer.get_vocab_size()} entries",
            f"Give more text, or --vocab-size {tokenizer.get_vocab_size()} or less.",
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=None,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


class _Progress(BaseModel):
    """What has been tokenized: the shards that are finished, and what they hold."""

    files: list[str]
    tokens: int
    documents: int
    bytes: int
    pieces: int
    sources: list[list[str | int]]


class _Index(BaseModel):
    """What the finished shards hold."""

    files: list[str]
    tokens: int
    documents: int
    bytes: int
    dtype: Literal["uint16", "uint32"]
    end_of_text: int


@dataclass(frozen=True)
class Shards:
    """A tokenized corpus on disk: its shard files in order, the end-of-text id, and what it was made of."""

    files: tuple[Path, ...]
    end_of_text: int
    tokens: int
    documents: int
    bytes: int
    dtype: str

    @classmethod
    def open(cls, folder: Path) -> Shards | None:
        """The finished shards in a folder, or None where tokenizing has not finished there."""
        index = folder / "index.json"
        if not index.is_file():
            return None
        values = checked(index, read_json(index, _AGAIN), _Index, _AGAIN)
        return cls(files=tuple(folder / name for name in values.files), **values.model_dump(exclude={"files"}))


def tokenize(
    files: Sequence[Path],
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    say: Callable[[str], None] = lambda line: None,
) -> Shards:
    """Tokenize the files into shards of 16 million tokens in `folder`; peak memory does not grow with the corpus.

    Shards that an interrupted call finished are reused, and their text is skipped without tokenizing it.
    Raises DataError as `read_pieces`, MachineError where the disk fills.
    """
    done = Shards.open(folder)
    if done is not None:
        return done
    try:
        return _tokenize(files, tokenizer, folder, say)
    except OSError as error:
        raise MachineError(
            f"{folder}: cannot write the tokenized text ({error.strerror})",
            "Make room and continue with --resume: finished shards are reused.",
        ) from error


@dataclass(frozen=True, eq=False)
class ValidationText:
    """A held-out text: its token stream [tokens], the end-of-text id, and the UTF-8 bytes of its documents.

    `ends` [tokens] holds how many bytes of text each prefix of the stream encodes.
    """

    tokens: np.ndarray
    ends: np.ndarray
    end_of_text: int

    @classmethod
    def read(cls, files: Sequence[Path], tokenizer: PreTrainedTokenizerFast) -> ValidationText:
        """Tokenize the whole text in memory; raises DataError."""
        lengths = _token_bytes(tokenizer)
        parts = [np.array([tokenizer.eos_token_id])]
        for ids, ends_document, _ in _encode(read_pieces(files), tokenizer):
            parts += [ids, parts[0]] if ends_document else [ids]
        tokens = np.concatenate(parts)
        return cls(tokens, lengths[tokens].cumsum(), tokenizer.eos_token_id)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the text that the stream encodes."""
        return int(self.ends[-1])

    def head(self, tokens: int) -> ValidationText:
        """The first `tokens` tokens of it."""
        return ValidationText(self.tokens[:tokens], self.ends[:tokens], self.end_of_text)

    def __len__(self) -> int:
        return len(self.tokens)


def _token_bytes(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """How many bytes of text each token of a byte-level vocabulary encodes; none for the end-of-text mark."""
    lengths = np.array([len(token) for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))])
    lengths[tokenizer.all_special_ids] = 0
    return lengths


def _tokenize(
    files: Sequence[Path], tokenizer: PreTrainedTokenizerFast, folder: Path, say: Callable[[str], None]
) -> Shards:
    folder.mkdir(parents=True, exist_ok=True)
    dtype = "uint16" if len(tokenizer) <= 1 << 16 else "uint32"
    progress = folder / "progress.json"
    sources = [[file.name, file.stat().st_size] for file in files]
    done: dict[str, Any] = {"files": [], "pieces": 0, "tokens": 0, "documents": 0, "bytes": 0, "sources": sources}
    if progress.is_file():
        done = checked(progress, read_json(progress, _AGAIN), _Progress, _AGAIN).model_dump()
        if done["sources"] != sources:
            raise DataError("The text is not the one that tokenizing began with", "Begin again in another folder")
    separator = np.array([tokenizer.eos_token_id], dtype=dtype)
    buffer: list[np.ndarray] = [] if done["files"] else [separator]
    held = len(buffer)

    def flush() -> None:
        nonlocal buffer, held
        name = f"tokens-{len(done['files']):05d}.bin"
        _write(folder / name, np.concatenate(buffer).tobytes())
        done["files"].append(name)
        done["tokens"] += held
        _write(progress, json.dumps(done).encode())
        buffer, held = [], 0
        say(f"tokenized {done['bytes'] / 1e6:,.0f} MB, {done['tokens'] / 1e6:,.1f} million tokens")

    pieces = islice(read_pieces(files), done["pieces"], None)
    for ids, ends_document, length in _encode(pieces, tokenizer):
        buffer.append(ids.astype(dtype))
        if ends_document:
            buffer.append(separator)
        held += len(ids) + ends_document
        done["pieces"] += 1
        done["documents"] += ends_document
        done["bytes"] += length
        if held >= SHARD_TOKENS:
            flush()
    if held:
        flush()
    index = {name: done[name] for name in ("files", "tokens", "documents", "bytes")}
    index |= {"dtype": dtype, "end_of_text": tokenizer.eos_token_id}
    _write(folder / "index.json", json.dumps(index).encode())
    progress.unlink()
    shards = Shards.open(folder)
    assert shards is not None
    return shards


def _encode(pieces: Iterator[Piece], tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[np.ndarray, bool, int]]:
    """Token ids, whether the document ends, and UTF-8 bytes, piece by piece; all cores encode at once."""
    while batch := list(islice(pieces, 64)):
        for piece, ids in zip(
            batch, encode_texts(tokenizer, [piece.text for piece in batch], begins=False), strict=True
        ):
            yield np.array(ids, dtype=np.int64), piece.ends_document, len(piece.text.encode())


def _sample(pieces: Iterable[Piece], characters: int) -> list[str]:
    """A sample of at most `characters`, spread evenly over the text and the same every time."""
    kept: list[tuple[int, str]] = []
    held, ceiling = 0, 1 << 32
    for number, piece in enumerate(pieces):
        rank = zlib.crc32(number.to_bytes(8, "little"))
        if rank < ceiling:
            kept.append((rank, piece.text))
            held += len(piece.text)
        while held > characters and len(kept) > 1:
            ceiling //= 2
            kept = [entry for entry in kept if entry[0] < ceiling]
            held = sum(len(text) for _, text in kept)
    return [text for _, text in kept]


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with atomic_path(path) as draft, draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
