"""Language modeling: how texts become windows, and what is reported about them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from gpt_tasks import LanguageModelingTask
from gpt_tasks.data.plain_text import PASSAGE_CHARACTERS
from gpt_tasks.data.sources import open_source
from gpt_tasks.errors import DataError
from gpt_tasks.types import Encoded, Example, LogLikelihood, Row


class Texts(LanguageModelingTask):
    """Texts of the tests."""

    name = "texts"


TASK = Texts()


def read(text: str, **more: object) -> Example:
    row = Row({"text": text, **more}, "rows:1")
    return TASK.example(row, TASK.fields(list(row.values), {}, "rows"))


def learned(windows: list[Encoded]) -> list[int]:
    return [token for window in windows for start, end in window.label_spans for token in window.input_ids[start:end]]


@pytest.mark.parametrize("max_length", [2, 3, 7, 64])
@pytest.mark.parametrize("text", ["one", "Ein Käfer, 你好 👩‍🚀 e\u0301!", "words " * 40])
def test_every_token_and_the_end_are_learned_once_for_any_window(
    tiny_tokenizer: PreTrainedTokenizerBase, text: str, max_length: int
) -> None:
    windows = TASK.encode([read(text)], tiny_tokenizer, max_length)
    ids = tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert learned(windows) == [*ids, tiny_tokenizer.eos_token_id]
    assert all(len(window.input_ids) <= max_length and window.label_spans[0][0] == 1 for window in windows)
    assert windows[0].input_ids[0] == tiny_tokenizer.eos_token_id
    assert [w.input_ids[0] for w in windows[1:]] == [w.input_ids[-1] for w in windows[:-1]]


def test_documents_share_no_window(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    texts = ["a first one", "and a second"]
    apart = [TASK.encode([read(text)], tiny_tokenizer, 64) for text in texts]
    assert TASK.encode([read(text) for text in texts], tiny_tokenizer, 64) == [
        window for some in apart for window in some
    ]


def test_no_end_is_learned_where_a_text_continues_in_the_next_row(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    (window,) = TASK.encode([read("it goes on", continues=True)], tiny_tokenizer, 64)
    assert tiny_tokenizer.eos_token_id not in learned([window])


def test_a_window_without_room_is_refused(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match="--max-length 1"):
        TASK.encode([read("one")], tiny_tokenizer, 1)


@pytest.mark.parametrize("value", ["perhaps", 3, None])
def test_what_says_neither_yes_nor_no_is_refused(value: object) -> None:
    with pytest.raises(DataError, match=r"rows:1.*continues"):
        read("one", continues=value)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(DataError, match="rows:1: the text is empty"):
        read(" \n")


def test_metrics_count_by_tokens_words_and_bytes() -> None:
    example = read("two words")
    found = TASK.score(example, TASK.prediction(example, [LogLikelihood(-12.0, False, tokens=4)]))
    assert {name: statistic.value for name, statistic in found.items()} == pytest.approx(
        {"perplexity": 3.0, "word_perplexity": 6.0, "byte_perplexity": 12 / 9, "bits_per_byte": 12 / 9 / math.log(2)}
    )
    assert [statistic.weight for statistic in found.values()] == [4, 2, 9, 9]


def test_a_text_file_is_read_in_passages_that_are_its_whole_text(tmp_path: Path) -> None:
    book = "".join(f"Line {number} of a rather long book.\n" for number in range(1000)).rstrip("\n")
    file = tmp_path / "books.txt"
    file.write_text(f"{book}\n<|endoftext|>\nA short one.\n", encoding="utf-8")
    rows = list(open_source(file, {}).splits["all"]())
    columns = TASK.fields(list(rows[0].values), {}, "books.txt")
    examples = [TASK.example(row, columns) for row in rows]
    assert [example.inputs["continues"] for example in examples] == ["true"] * (len(rows) - 2) + ["false"] * 2
    assert "".join(example.inputs["text"] for example in examples[:-1]) == book
    assert examples[-1].inputs["text"] == "A short one."
    assert examples[-1].where == "books.txt:1002"
    assert max(len(example.inputs["text"]) for example in examples) < 10_000


@pytest.mark.parametrize("more", ["", "\n", "\n \n<|endoftext|>\nA short one.\n"])
def test_a_document_that_ends_where_a_passage_does_leaves_no_empty_row(tmp_path: Path, more: str) -> None:
    file = tmp_path / "book.txt"
    file.write_text("x" * PASSAGE_CHARACTERS + more, encoding="utf-8")
    rows = [row.values for row in open_source(file, {}).splits["all"]()]
    assert rows[0] == {"passage": "x" * PASSAGE_CHARACTERS, "continues": False}
    assert [row["passage"] for row in rows[1:]] == (["A short one."] if "short" in more else [])
