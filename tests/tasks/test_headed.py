"""What a head reads: pairs in both orders, a separate token between them, long texts in windows."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from gpt_tasks.backbone.load import open_backbone
from gpt_tasks.backbone.locate import Location
from gpt_tasks.backbone.tokens import add_tokens
from gpt_tasks.errors import UsageError
from gpt_tasks.tasks.headed import DELIMITER
from gpt_tasks.tasks.pieces import encode_pieces
from gpt_tasks.tasks.regression import RegressionTask
from gpt_tasks.types import Example

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

TEXT = " ".join(f"In house {n} the soup was cold, and nobody (not even 🚂 or 太好了 {n}) knew why." for n in range(4))


class Alike(RegressionTask):
    name = "alike"
    columns: ClassVar = {"a": "a", "b": "b", "score": "score"}
    prompt = f"{{a}}{DELIMITER}{{b}}"
    symmetric = True


def seen(*fields: str) -> Any:
    """Training data of two numbers, as `fit` sees them."""
    return SimpleNamespace(fields=fields, observed={"1.0": 1, "2.0": 1})


def test_every_token_is_in_a_window_and_windows_overlap(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    own = tiny_tokenizer(TEXT)["input_ids"]
    (encoded,) = encode_pieces("{text}", [{"text": TEXT}], tiny_tokenizer, 40, "windows")
    assert encoded.windows == len(encoded.sequences) > 2
    assert encoded.truncated == 0
    assert all(len(ids) <= 40 for ids in encoded.sequences)
    # A window may begin or end within a character of several tokens.
    parts = [str(tiny_tokenizer.decode(ids)).strip("\ufffd") for ids in encoded.sequences]
    places = [TEXT.find(part) for part in parts]
    assert parts[0] == TEXT[: len(parts[0])]
    assert sum(map(len, encoded.sequences)) > len(own)
    for (start, part), (after, _) in pairwise(zip(places, parts, strict=True)):
        assert start < after < start + len(part)
    assert TEXT.endswith(parts[-1])


def test_each_window_is_in_the_whole_prompt(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    values = {"title": "Soup", "text": TEXT}
    (encoded,) = encode_pieces("{title}: {text} So?", [values], tiny_tokenizer, 48, "windows")
    for ids in encoded.sequences:
        said = str(tiny_tokenizer.decode(ids))
        assert said.startswith("Soup:")
        assert said.endswith(" So?")


def test_texts_that_leave_no_room_are_cut(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    (encoded,) = encode_pieces("{a} {b}", [{"a": TEXT, "b": TEXT}], tiny_tokenizer, 40, "windows")
    assert encoded.windows == 1
    assert encoded.truncated > 0
    assert len(encoded.input_ids) <= 40


def test_a_short_text_is_one_sequence_and_truncating_reads_the_beginning(
    tiny_tokenizer: PreTrainedTokenizerBase,
) -> None:
    class Scored(RegressionTask):
        name = "scored"

    short, long = (Example({"text": text}, None, "") for text in ("Soup.", TEXT))
    task = Scored()
    assert [each.windows for each in task.encode([short], tiny_tokenizer, 40)] == [1]
    task.long_texts = "truncate"
    (cut,) = task.encode([long], tiny_tokenizer, 40)
    assert 38 <= len(cut.input_ids) <= 40
    assert cut.more_sequences == ()
    assert cut.truncated == len(tiny_tokenizer(TEXT)["input_ids"]) - len(cut.input_ids)


def test_a_symmetric_pair_is_read_in_both_orders(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    one, other = {"a": "The soup", "b": "A train"}, {"a": "A train", "b": "The soup"}
    (encoded,) = Alike().encode([Example(one, None, "")], tiny_tokenizer, 40)
    (turned,) = Alike().encode([Example(other, None, "")], tiny_tokenizer, 40)
    assert encoded.sequences == turned.sequences[::-1]
    assert encoded.sequences[0] == tiny_tokenizer(f"The soup{DELIMITER}A train")["input_ids"]


def test_the_delimiter_is_one_token_and_begins_as_the_end_of_text(tiny_backbone_folder: Path) -> None:
    import torch

    backbone = open_backbone(Location(str(tiny_backbone_folder), tiny_backbone_folder))
    task = Alike().fit(seen("a", "b"), "file")
    rows = len(backbone.tokenizer)
    for _ in range(2):
        add_tokens(backbone.model, backbone.tokenizer, task.special_tokens())
    ids = backbone.tokenizer(f"soup{DELIMITER}train")["input_ids"]
    assert ids.count(rows) == 1
    assert backbone.tokenizer.decode(ids) == f"soup{DELIMITER}train"
    embedding = backbone.model.get_input_embeddings().weight
    assert embedding.shape[0] == rows + 1 == backbone.model.config.vocab_size
    assert torch.equal(embedding[rows], embedding[backbone.tokenizer.eos_token_id])


@pytest.mark.parametrize("inputs", [("text",), ("a", "b")])
def test_only_what_is_read_needs_a_token(inputs: tuple[str, ...]) -> None:
    class Either(RegressionTask):
        name = "either"
        pair_prompt = f"{{a}}{DELIMITER}{{b}}"

    task = Either().fit(seen(*inputs), "file")
    assert task.special_tokens() == ((DELIMITER,) if len(inputs) == 2 else ())


def test_a_prompt_that_names_the_answer_is_refused() -> None:
    for prompt in ("{a} {score}", "{score}"):
        with pytest.raises(UsageError, match=r"names 'score', which is the answer") as caught:
            Alike().configured(Alike.Options(prompt=prompt))
        assert caught.value.hint == "Name what is read: {a}, {b}."
