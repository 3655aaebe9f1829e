"""No document and no byte of raw text is lost on its way to the windows that a model is trained on."""

from __future__ import annotations

import gzip
import json
import lzma
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gpt_tasks.errors import DataError, MachineError, ModelError
from gpt_tasks.pretraining import corpus, texts
from gpt_tasks.pretraining.corpus import Shards, ValidationText, tokenize, train_tokenizer
from gpt_tasks.pretraining.texts import find_texts, read_pieces
from gpt_tasks.pretraining.windows import PackedWindows, WindowBatches, permute

DOCUMENTS = [
    "One line.",
    "Two\n\nparagraphs, the second\nof two lines.",
    "Ünï — <|endoftext|> inside is text",
    "  four",
]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    file = tmp_path / "plain.txt"
    file.write_text("\n<|endoftext|>\n".join(DOCUMENTS) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    file = tmp_path_factory.mktemp("text") / "words.txt"
    draw = random.Random(0)
    file.write_text(" ".join("".join(draw.choices("abcdefgh", k=draw.randint(1, 6))) for _ in range(5000)))
    return train_tokenizer([file], vocab_size=600, context=64)


def documents(files: list[Path]) -> list[str]:
    found = [""]
    for text, ends, _ in read_pieces(files):
        found[-1] += text
        if ends:
            found.append("")
    assert found.pop() == ""
    return found


def test_every_kind_of_file_holds_the_same_documents(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n\n" for text in DOCUMENTS))
    (tmp_path / "marked.txt").write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n"))
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "packed.jsonl.xz").write_bytes(lzma.compress((tmp_path / "rows.jsonl").read_bytes()))
    (tmp_path / "README.md").write_text("not a text to train on")
    for name in ("plain.txt", "rows.jsonl", "marked.txt", "packed.txt.gz", "packed.jsonl.xz"):
        assert documents([tmp_path / name]) == DOCUMENTS, name
    assert len(find_texts([tmp_path])) == 5
    assert find_texts([tmp_path / "*.txt", plain]) == [tmp_path / "marked.txt", plain]
    with pytest.raises(DataError, match=r"\*\.text: no such text"):
        find_texts([tmp_path / "*.text"])


def test_a_long_document_has_the_tokens_it_has_in_one_piece(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(1)
    document = "".join(
        draw.choice(["word", "ä", " ", " ", "\n", "\n\n", " \n  ", "it's", "12"]) for _ in range(4000)
    ).strip()
    (tmp_path / "long.txt").write_text(document)
    monkeypatch.setattr(texts, "PIECE_CHARACTERS", 70)
    assert len(list(read_pieces([tmp_path / "long.txt"]))) > 50
    stream = ValidationText.read([tmp_path / "long.txt"], tokenizer).tokens
    assert stream.tolist() == [0, *tokenizer.encode(document), 0]


def test_any_text_and_any_bytes_survive(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    reopened = AutoTokenizer.from_pretrained(tmp_path)
    draw = random.Random(2)
    for _ in range(200):
        text = "".join(chr(draw.choice([draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)])) for _ in range(40))
        assert reopened.decode(reopened.encode(text)) == text
    for byte in range(256):
        text = bytes([byte]).decode("latin-1")
        assert reopened.decode(reopened.encode(f" {text} x{text}")) == f" {text} x{text}"


def test_the_stream_is_documents_between_end_of_text_marks(
    plain: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    shards = tokenize([plain], tokenizer, tmp_path / "shards")
    stream = np.fromfile(shards.files[0], dtype=shards.dtype)
    starts = np.flatnonzero(stream == tokenizer.eos_token_id)
    assert [tokenizer.decode(stream[a + 1 : b]) for a, b in pairwise(starts)] == DOCUMENTS
    assert (starts[0], starts[-1]) == (0, len(stream) - 1)
    assert (shards.documents, shards.tokens) == (4, len(stream))
    assert shards.bytes == sum(len(text.encode()) for text in DOCUMENTS)
    assert ValidationText.read([plain], tokenizer).tokens.tolist() == stream.tolist()


def test_interrupted_tokenizing_saves_its_shards(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(json.dumps({"text": f"abc {number} fgh " * 30}) + "\n" for number in range(300))
    (tmp_path / "rows.jsonl").write_text(rows)
    monkeypatch.setattr(corpus, "SHARD_TOKENS", 5000)
    whole = tokenize([tmp_path / "rows.jsonl"], tokenizer, tmp_path / "whole")
    said: list[str] = []

    def stop_at_two(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize([tmp_path / "rows.jsonl"], tokenizer, tmp_path / "shards", stop_at_two)
    assert Shards.open(tmp_path / "shards") is None
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "shards").glob("*.bin")}
    assert len(kept) == 2
    shards = tokenize([tmp_path / "rows.jsonl"], tokenizer, tmp_path / "shards")
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert [file.read_bytes() for file in shards.files] == [file.read_bytes() for file in whole.files]
    assert (shards.tokens, shards.documents, shards.bytes) == (whole.tokens, whole.documents, whole.bytes)

    (tmp_path / "shards" / "index.json").rename(tmp_path / "shards" / "progress.json")
    progress = json.loads((tmp_path / "shards" / "progress.json").read_text())
    other = json.dumps(progress | {"pieces": 3, "sources": [["rows.jsonl", 1]]})
    (tmp_path / "shards" / "progress.json").write_text(other)
    with pytest.raises(DataError, match="not the one that tokenizing began with"):
        tokenize([tmp_path / "rows.jsonl"], tokenizer, tmp_path / "shards")
    (tmp_path / "shards" / "progress.json").write_text(json.dumps({**progress, "pieces": "three"}))
    with pytest.raises(ModelError, match=r"progress.json: 'pieces': input should be a valid integer"):
        tokenize([tmp_path / "rows.jsonl"], tokenizer, tmp_path / "shards")


def test_a_full_disk_is_said_in_one_line(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, files_up_to: Callable[[int], AbstractContextManager[None]]
) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("abc fgh " * 400)
    with files_up_to(4000), pytest.raises(MachineError, match="File too large") as raised:
        tokenize(find_texts([tmp_path / "*.txt"] * 3), tokenizer, tmp_path / "shards")
    assert "--resume" in raised.value.hint
    assert not list((tmp_path / "shards").glob("*.bin"))


def test_windows_follow_one_another_and_share_their_borders(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": f"row {n} " * 9}) + "\n" for n in range(300)))
    monkeypatch.setattr(corpus, "SHARD_TOKENS", 3001)
    shards = tokenize([tmp_path / "rows.jsonl"], tokenizer, tmp_path / "shards")
    assert len(shards.files) > 2
    windows = PackedWindows(shards, context=50)
    expected = []
    for file in shards.files:
        stream = np.fromfile(file, dtype=shards.dtype)
        expected += [stream[start : start + 51] for start in range(0, len(stream) - 50, 50)]
    assert len(windows) == len(expected)
    assert all((windows[index] == window).all() for index, window in enumerate(expected))


@pytest.mark.parametrize("size", [1, 2, 3, 17, 256, 1000, 4097])
def test_the_order_is_a_permutation(size: int) -> None:
    positions = np.arange(size, dtype=np.uint64)
    orders = [
        permute(positions, size, np.random.SeedSequence([0, epoch]).generate_state(4, np.uint64)) for epoch in (0, 1)
    ]
    assert all(sorted(order) == list(range(size)) for order in orders)
    if size > 100:
        moves = np.abs(orders[0].astype(float) - positions).mean() / size
        assert moves == pytest.approx(1 / 3, abs=0.06)
        assert (orders[0] == orders[1]).mean() < 0.05


def test_two_ranks_see_what_one_sees_with_accumulation() -> None:
    one = WindowBatches(windows=1003, batch_size=8, seed=5)
    two = [WindowBatches(windows=1003, batch_size=8, seed=5, rank=rank, ranks=2) for rank in range(2)]
    for epoch in range(2):
        for batches in (one, *two):
            batches.set_epoch(epoch)
        alone = list(one)
        assert [batch for pair in zip(*two, strict=True) for batch in pair] == alone[: 2 * len(two[0])]
        assert len({row for batch in alone for row in batch}) == len(one) * 8
        assert list(one) == alone
    assert next(iter(WindowBatches(1003, 8, seed=6))) != next(iter(WindowBatches(1003, 8, seed=5)))
