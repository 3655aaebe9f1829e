"""Raw text becomes a tokenizer, memory-mapped shards of token ids, and packed windows to train on.

The token stream of a corpus is `<eos> document <eos> document ... <eos>`: one end-of-text token both closes a document and
opens the next, so the end of a text is learned, and a model that is given only this token begins a new text.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from gpt_tasks.errors import DataError, MachineError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
PIECE_CHARACTERS = 1 << 16
TOKENIZER_SAMPLE_CHARACTERS = 40_000_000
SHARD_TOKENS = 1 << 24


class Piece(NamedTuple):
    """A part of a document, small enough to hold many of them in memory."""

    text: str
    ends_document: bool


def find_texts(sources: Sequence[str | Path]) -> list[Path]:
    """The files that `sources` (files, folders, globs) name, sorted within each source; raises DataError."""
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and _is_text_name(file.name))
        elif path.is_file():
            files = [path]
        else:
            pattern = path.relative_to(path.anchor) if path.is_absolute() else path
            files = sorted(Path(path.anchor or ".").glob(str(pattern))) if any(c in str(path) for c in "*?[") else []
        if not files:
            raise DataError(
                f"{source}: no such text", "Give .txt or .jsonl files (also .gz and .xz), folders of them, or globs."
            )
        found += [file for file in files if file not in found]
    return found


def read_pieces(files: Iterable[Path]) -> Iterator[Piece]:
    """Every document of the files in pieces of about 64k characters, cut between lines where there are lines.

    Raises DataError for a file that holds no text, is not UTF-8, or has a broken row.
    """
    for file in files:
        empty = True
        for piece in _read_jsonl(file) if _bare_suffix(file) == ".jsonl" else _read_plain(file):
            empty = empty and not piece.text.strip()
            yield piece
        if empty:
            raise DataError(f"{file}: no text in this file", "Leave it out, or give the file that was meant.")


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
        values = json.loads(index.read_text())
        return cls(files=tuple(folder / name for name in values.pop("files")), **values)


def tokenize(files: Sequence[Path], tokenizer: PreTrainedTokenizerFast, folder: Path) -> Shards:
    """Tokenize the files into shards of 16 million tokens in `folder`; peak memory does not grow with the corpus.

    Shards that an interrupted call finished are kept, and the text that they hold is read past without tokenizing it.
    Raises DataError as `read_pieces`, MachineError where the disk fills.
    """
    done = Shards.open(folder)
    if done is not None:
        return done
    try:
        return _tokenize(files, tokenizer, folder)
    except OSError as error:
        raise MachineError(
            f"{folder}: cannot write the tokenized text ({error.strerror})",
            "Make room and go on with --resume: finished shards are kept.",
        ) from error


class PackedWindows(Dataset[np.ndarray]):
    """Windows of `context + 1` token ids (the last one is only a target), one after another through the shards."""

    def __init__(self, shards: Shards, context: int) -> None:
        self.context = context
        self._maps = [np.memmap(file, dtype=shards.dtype, mode="r") for file in shards.files]
        self._first = np.cumsum([0] + [max(len(tokens) - 1, 0) // context for tokens in self._maps])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        start = (index - int(self._first[shard])) * self.context
        return self._maps[shard][start : start + self.context + 1].astype(np.int64)


class WindowBatches(Sampler[list[int]]):
    """Batches of window numbers in an order that is a pure function of seed, epoch and position.

    Batch `i` of the epoch goes to rank `i % ranks`, so two ranks see what one rank sees with accumulation 2. The order is a
    keyed permutation (a Feistel network, cycle-walking: Black and Rogaway 2002), so it needs no memory for the corpus.
    """

    def __init__(self, windows: int, batch_size: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        self.windows, self.batch_size, self.seed, self.rank, self.ranks = windows, batch_size, seed, rank, ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.windows // (self.batch_size * self.ranks)

    def __iter__(self) -> Iterator[list[int]]:
        key = np.random.SeedSequence([self.seed, self.epoch]).generate_state(4, np.uint64)
        for batch in range(len(self)):
            first = (batch * self.ranks + self.rank) * self.batch_size
            yield permute(np.arange(first, first + self.batch_size, dtype=np.uint64), self.windows, key).tolist()


def permute(positions: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """Where each of `positions` (uint64, below `size`) goes under the permutation of `size` things that `key` picks."""
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    moved = positions.copy()
    outside = np.ones(len(moved), dtype=bool)
    while outside.any():
        left, right = moved[outside] >> half, moved[outside] & mask
        for subkey in key:
            mixed = (right + subkey) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        moved[outside] = (left << half) | right
        outside = moved >= size
    return moved


def collate_windows(windows: Sequence[np.ndarray], end_of_text: int) -> dict[str, torch.Tensor]:
    """Windows as a batch: input_ids and labels [batch, length], labels already shifted.

    Where a document begins inside a window, position_ids [batch, length] restart at it and attention_mask
    [batch, 1, length, length] (True where a query may look) keeps documents apart; other batches carry neither.
    """
    tokens = torch.from_numpy(np.stack(windows))
    inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    batch = {"input_ids": inputs, "labels": labels}
    begins = inputs == end_of_text
    begins[:, 0] = False
    if begins.any():
        document = begins.cumsum(1)
        place = torch.arange(inputs.shape[1]).expand_as(inputs)
        batch["position_ids"] = place - torch.where(begins, place, 0).cummax(1).values
        same = document[:, None, :, None] == document[:, None, None, :]
        batch["attention_mask"] = same & torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool).tril()
    return batch


@dataclass(frozen=True, eq=False)
class ValidationText:
    """A held-out text: its token stream [tokens], the end-of-text id, and the UTF-8 bytes of its documents.

    `ends` [tokens] holds how many bytes of text each prefix of the stream stands for.
    """

    tokens: np.ndarray
    ends: np.ndarray
    end_of_text: int

    @classmethod
    def read(cls, file: Path, tokenizer: PreTrainedTokenizerFast) -> ValidationText:
        """Tokenize a whole text in memory; raises DataError."""
        lengths = _token_bytes(tokenizer)
        parts = [np.array([tokenizer.eos_token_id])]
        for ids, ends_document, _ in _encode(read_pieces(find_texts([file])), tokenizer):
            parts += [ids, parts[0]] if ends_document else [ids]
        tokens = np.concatenate(parts)
        return cls(tokens, lengths[tokens].cumsum(), tokenizer.eos_token_id)

    @property
    def bytes(self) -> int:
        return int(self.ends[-1])

    def head(self, tokens: int) -> ValidationText:
        """The first `tokens` tokens of it."""
        return ValidationText(self.tokens[:tokens], self.ends[:tokens], self.end_of_text)

    def __len__(self) -> int:
        return len(self.tokens)


def _token_bytes(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """How many bytes of text each token of a byte-level vocabulary stands for; none for the end-of-text mark."""
    lengths = np.array([len(token) for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))])
    lengths[tokenizer.all_special_ids] = 0
    return lengths


def _tokenize(files: Sequence[Path], tokenizer: PreTrainedTokenizerFast, folder: Path) -> Shards:
    folder.mkdir(parents=True, exist_ok=True)
    dtype = "uint16" if len(tokenizer) <= 1 << 16 else "uint32"
    progress = folder / "progress.json"
    done: dict[str, Any] = {"files": [], "pieces": 0, "tokens": 0, "documents": 0, "bytes": 0}
    if progress.is_file():
        done = json.loads(progress.read_text())
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
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True  # an end-of-text mark inside a text is text, not a mark
    try:
        while batch := list(islice(pieces, 64)):
            encoded = backend.encode_batch_fast([piece.text for piece in batch], add_special_tokens=False)
            for piece, encoding in zip(batch, encoded, strict=True):
                yield np.array(encoding.ids, dtype=np.int64), piece.ends_document, len(piece.text.encode())
    finally:
        backend.encode_special_tokens = False


def _read_plain(file: Path) -> Iterator[Piece]:
    """A text file's documents, separated by lines that hold only the end-of-text mark."""
    lines: list[str] = []
    held = 0
    begun = False
    for line in _lines(file):
        if line.rstrip("\n") == END_OF_TEXT:
            text = "".join(lines).rstrip("\n")
            if begun or text.strip():
                yield Piece(text, True)
            lines, held, begun = [], 0, False
            continue
        lines.append(line)
        held += len(line)
        if held >= PIECE_CHARACTERS:
            # White space goes with what follows it: so cut, the pieces have the tokens of the whole.
            text = "".join(lines)
            body = text.rstrip()
            if body:
                yield Piece(body, False)
            lines, held, begun = [text[len(body) :]], len(text) - len(body), begun or bool(body)
    text = "".join(lines).rstrip("\n")
    if begun or text.strip():
        yield Piece(text, True)


def _read_jsonl(file: Path) -> Iterator[Piece]:
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}:{number}: not a JSON object with a field 'text'") from error
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{file}:{number}: 'text' is {json.dumps(text)[:40]}, not a text")
        for start in range(0, len(text), 4 * PIECE_CHARACTERS):
            end = start + 4 * PIECE_CHARACTERS
            yield Piece(text[start:end], end >= len(text))


def _lines(file: Path) -> Iterator[str]:
    """Lines of a file, a line without an end cut at 1 million characters; raises DataError where it is not text."""
    try:
        with _open(file) as stream:
            while line := stream.readline(1 << 20):
                if "\0" in line:
                    raise DataError(f"{file}: this is not a text file (it holds zero bytes)")
                yield line
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason})", "Convert it to UTF-8.") from error
    except (gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be decompressed ({error})") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error


def _open(file: Path) -> TextIO:
    match file.suffix:
        case ".gz":
            return gzip.open(file, "rt", encoding="utf-8-sig")
        case ".xz":
            return lzma.open(file, "rt", encoding="utf-8-sig")
        case _:
            return file.open(encoding="utf-8-sig")


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
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def _bare_suffix(file: Path) -> str:
    return Path(file.stem).suffix if file.suffix in (".gz", ".xz") else file.suffix


def _is_text_name(name: str) -> bool:
    return _bare_suffix(Path(name)) in (".txt", ".jsonl")
