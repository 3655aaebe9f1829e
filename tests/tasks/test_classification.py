"""What a classification task makes of labels, columns, texts and logits."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.training.config import validated
from gpt_tasks.types import Example, Row


class Tone(ClassificationTask):
    """Tell harsh from kind letters.

    The second paragraph is no part of the description.
    """

    name = "tone"
    columns: ClassVar = {"text": "letter", "label": "tone"}
    labels = ("harsh", "kind")
    prompt = "Letter: {text}\nTone:"


class Topics(ClassificationTask):
    """Sort texts, or pairs of texts."""

    name = "topics"
    pair_prompt = "{text_a} / {text_b}"


class Title(ClassificationTask):
    """Sort articles by their title and body."""

    name = "title"
    columns: ClassVar = {"title": "headline", "body": "body", "label": "label"}
    prompt = "{title}\n{body}"


def row(**values: object) -> Row:
    return Row(values, "letters.csv:7")


class TestLabels:
    def test_all_declared_keeps_the_declared_order(self) -> None:
        task, meaning = Tone().fitted({"kind", "harsh"}, ["text"], "letters.csv")
        assert task.labels == ("harsh", "kind")
        assert meaning == {"kind": "kind", "harsh": "harsh"}

    def test_some_of_many_declared_keeps_all_the_declared(self) -> None:
        class Three(Tone):
            labels = ("harsh", "plain", "kind")

        task, _ = Three().fitted({"kind", "harsh"}, ["text"], "letters.csv")
        assert task.labels == ("harsh", "plain", "kind")

    def test_some_not_declared_is_an_error_that_names_the_odd_ones(self) -> None:
        with pytest.raises(DataError) as raised:
            Tone().fitted({"kind", "harsch", "zebra"}, ["text"], "letters.csv")
        assert "letters.csv" in raised.value.message
        assert "'harsch', 'zebra'" in raised.value.message
        assert "(harsh, kind)" in raised.value.message
        assert raised.value.hint == "Did you mean 'harsh'?"

    def test_none_declared_takes_the_datas_own_sorted(self) -> None:
        task, meaning = Tone().fitted({"wood", "iron", "10", "9"}, ["text"], "letters.csv")
        assert task.labels == ("9", "10", "iron", "wood")
        assert set(meaning) == set(meaning.values()) == set(task.labels)

    def test_a_task_that_declares_none_takes_the_datas_own(self) -> None:
        assert Topics().fitted({"b", "a"}, ["text"], "x.csv")[0].labels == ("a", "b")
        assert Topics().fitted({"1", "0", "10", "2"}, ["text"], "x.csv")[0].labels == ("0", "1", "2", "10")

    def test_whole_numbers_index_the_declared_ones(self) -> None:
        task, meaning = Tone().fitted({"1", "0"}, ["text"], "letters.csv")
        assert task.labels == ("harsh", "kind")
        assert meaning == {"0": "harsh", "1": "kind"}

    def test_a_number_beyond_the_declared_ones_is_an_error(self) -> None:
        with pytest.raises(DataError, match=r"letters.csv: label '2' is not one of harsh, kind"):
            Tone().fitted({"1", "2"}, ["text"], "letters.csv")

    def test_declared_numbers_are_names_and_no_places(self) -> None:
        class Stars(Tone):
            labels = ("1", "0")

        task, meaning = Stars().fitted({"0", "1"}, ["text"], "letters.csv")
        assert task.labels == ("1", "0")
        assert meaning == {"0": "0", "1": "1"}

    @pytest.mark.parametrize("observed", [{"kind"}, {"1"}, {"iron"}])
    def test_a_single_label_is_an_error(self, observed) -> None:
        with pytest.raises(DataError, match=r"letters.csv: every row has the label"):
            Tone().fitted(observed, ["text"], "letters.csv")

    def test_numbers_count_declared_labels_only(self) -> None:
        """The data's own labels are sorted: a number of the data set they come from means another of them."""
        fitted, _ = Topics().fitted({"World", "Sports", "Business"}, ["text"], "news.csv")
        for task in (fitted, Topics().restored(fitted.state())):
            with pytest.raises(DataError, match="label '0' is not one of Business, Sports, World") as raised:
                task.canonical("0", "later.csv:2")
            assert "by their names" in raised.value.hint
        declared, _ = Tone().fitted({"kind", "harsh"}, ["text"], "letters.csv")
        assert Tone().restored(declared.state()).canonical("0", "") == "harsh"

    def test_fitting_leaves_the_registered_task_as_it_was(self) -> None:
        task = Topics()
        task.fitted({"a", "b"}, ["text"], "x.csv")
        assert task.labels == ()

    def test_a_label_of_later_data_is_found_or_named(self) -> None:
        assert Tone().canonical("kind", "") == "kind"
        assert Tone().canonical("0", "") == "harsh"
        with pytest.raises(DataError) as raised:
            Tone().canonical("knid", "test.csv:3")
        assert raised.value.message == "test.csv:3: label 'knid' is not one of harsh, kind"
        assert raised.value.hint == "Did you mean 'kind'?"

    @pytest.mark.parametrize(
        ("value", "label"),
        [("kind", "kind"), (" kind ", "kind"), (1, "1"), (1.0, "1"), (True, "1"), (np.int64(1), "1")],
    )
    def test_a_label_is_read_as_text(self, value, label) -> None:
        example = Tone().example(row(letter="Dear", tone=value), {"text": "letter", "label": "tone"})
        assert example.target == label

    @pytest.mark.parametrize("value", [None, "", "  ", float("nan")])
    def test_a_missing_label_is_an_error(self, value) -> None:
        with pytest.raises(DataError, match=r"letters.csv:7: the label \(column 'tone'\) is missing"):
            Tone().example(row(letter="Dear", tone=value), {"text": "letter", "label": "tone"})

    @pytest.mark.parametrize("value", [["kind"], {"tone": "kind"}, 0.5])
    def test_a_label_that_is_no_text_is_an_error(self, value) -> None:
        with pytest.raises(DataError, match=r"letters.csv:7: the label \(column 'tone'\) is a"):
            Tone().example(row(letter="Dear", tone=value), {"text": "letter", "label": "tone"})


class TestColumns:
    def test_the_tasks_own_columns_are_read(self) -> None:
        assert Tone().fields(["id", "letter", "tone"], {}, "x.csv") == {"text": "letter", "label": "tone"}

    def test_the_users_mapping_wins(self) -> None:
        fields = Tone().fields(["letter", "tone", "body", "stars"], {"text": "body", "label": "stars"}, "x.csv")
        assert fields == {"text": "body", "label": "stars"}

    def test_data_without_labels_has_texts_only(self) -> None:
        assert Tone().fields(["letter"], {}, "x.csv") == {"text": "letter"}

    def test_a_missing_column_is_told_with_those_there_and_the_flag(self) -> None:
        with pytest.raises(DataError) as raised:
            Tone().fields(["body", "stars"], {}, "x.csv")
        assert raised.value.message == "x.csv: there is no column 'letter'; the columns are body, stars"
        assert "--column text=NAME" in raised.value.hint

    def test_a_mapped_label_that_is_missing_is_an_error(self) -> None:
        with pytest.raises(DataError, match="there is no column 'stars'"):
            Tone().fields(["letter"], {"label": "stars"}, "x.csv")

    def test_a_field_that_the_task_has_not_is_an_error(self) -> None:
        with pytest.raises(DataError) as raised:
            Tone().fields(["letter"], {"txt": "letter"}, "x.csv")
        assert "no field 'txt'" in raised.value.message
        assert raised.value.hint == "Its fields are text, label."

    def test_a_pair_is_taken_where_both_columns_are_there(self) -> None:
        assert set(Topics().fields(["text_a", "text_b", "label"], {}, "x.csv")) == {"text_a", "text_b", "label"}
        assert set(Topics().fields(["text", "text_b", "label"], {}, "x.csv")) == {"text", "label"}

    def test_what_is_mapped_decides_between_text_and_pair(self) -> None:
        columns = ["text", "text_a", "text_b", "premise", "claim", "label"]
        assert Topics().fields(columns, {"text": "claim"}, "x.csv") == {"text": "claim", "label": "label"}
        pair = Topics().fields(columns, {"text_a": "premise", "text_b": "claim"}, "x.csv")
        assert pair == {"text_a": "premise", "text_b": "claim", "label": "label"}

    def test_a_task_that_is_about_pairs_reads_its_own_columns(self) -> None:
        fields = Title().fields(["headline", "body", "label"], {}, "x.csv")
        assert fields == {"title": "headline", "body": "body", "label": "label"}

    def test_a_prompt_of_the_users_own_can_read_other_fields(self) -> None:
        task = Tone().configured(validated(Tone.Options, {"prompt": "{subject}: {text}"}))
        fields = task.fields(["head", "letter"], {"subject": "head"}, "x.csv")
        assert fields == {"subject": "head", "text": "letter"}

    def test_inputs_stand_in_the_order_of_the_prompt_and_extra_columns_are_kept_as_text(self) -> None:
        columns = Title().fields(["body", "headline", "year"], {}, "x.csv")
        example = Title().example(row(body="B", headline="H", year=1999), columns, extra=["year", "none"])
        assert list(example.inputs) == ["title", "body"]
        assert example.extra == {"year": "1999", "none": ""}
        assert example.target is None

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (None, "column 'letter' is missing"),
            ("", "column 'letter' is empty"),
            (" \n", "column 'letter' is empty"),
            (["a", "b"], "column 'letter' holds a list"),
            (7, "column 'letter' holds a int"),
        ],
    )
    def test_what_is_no_text_is_an_error_that_names_the_row(self, value, says) -> None:
        with pytest.raises(DataError) as raised:
            Tone().example(row(letter=value), {"text": "letter"})
        assert raised.value.message.startswith(f"letters.csv:7: {says}")


def example(**inputs: str) -> Example:
    return Example(inputs, None, "x.csv:1")


def cutting(task: ClassificationTask) -> ClassificationTask:
    """The task, which reads the beginning of what is too long."""
    task.long_texts = "truncate"
    return task


class TestEncoding:
    def test_the_filled_prompt_is_encoded_as_one_text(self, tiny_tokenizer) -> None:
        (encoded,) = Tone().encode([example(text="The train was late.")], tiny_tokenizer, 64)
        assert encoded.input_ids == tiny_tokenizer("Letter: The train was late.\nTone:")["input_ids"]
        assert encoded.truncated == 0

    @pytest.mark.parametrize("length", [16, 17, 20, 31])
    @pytest.mark.parametrize("text", ["The train was late. " * 20, "schön " * 40, "😀" * 50, "a b"])
    def test_a_long_text_is_cut_and_the_prompt_kept(self, tiny_tokenizer, length, text) -> None:
        full = tiny_tokenizer(Tone.prompt.format(text=text))["input_ids"]
        (encoded,) = cutting(Tone()).encode([example(text=text)], tiny_tokenizer, length)
        read = tiny_tokenizer.decode(encoded.input_ids)
        assert len(encoded.input_ids) == min(length, len(full)) or len(encoded.input_ids) < length < len(full)
        assert encoded.truncated == len(full) - len(encoded.input_ids)
        assert read.startswith("Letter: ")
        assert read.endswith("\nTone:")
        assert text.startswith(read.removeprefix("Letter: ").removesuffix("\nTone:"))

    def test_cutting_wastes_little(self, tiny_tokenizer) -> None:
        (encoded,) = cutting(Tone()).encode([example(text="The train was late. " * 20)], tiny_tokenizer, 40)
        assert len(encoded.input_ids) >= 38

    def test_of_a_pair_the_longer_text_is_cut_first(self, tiny_tokenizer) -> None:
        pair = example(text_a="Short.", text_b="A warm, generous film that I would gladly see again. " * 5)
        (encoded,) = cutting(Topics()).encode([pair], tiny_tokenizer, 30)
        assert tiny_tokenizer.decode(encoded.input_ids).startswith("Short. / A warm")

    def test_of_a_pair_both_are_cut_where_both_are_long(self, tiny_tokenizer) -> None:
        pair = example(text_a="xy" * 100, text_b="zw" * 100)
        (encoded,) = Topics().encode([pair], tiny_tokenizer, 40)
        first, second = tiny_tokenizer.decode(encoded.input_ids).split(" / ")
        assert len(encoded.input_ids) <= 40
        assert abs(len(first) - len(second)) <= 1

    def test_a_prompt_that_leaves_no_room_is_an_error(self, tiny_tokenizer) -> None:
        with pytest.raises(DataError, match="The prompt alone takes more than 4 tokens"):
            Tone().encode([example(text="The train was late.")], tiny_tokenizer, 4)

    def test_braces_in_a_text_are_text(self, tiny_tokenizer) -> None:
        (encoded,) = Tone().encode([example(text="{text} {0} {}")], tiny_tokenizer, 64)
        assert tiny_tokenizer.decode(encoded.input_ids) == "Letter: {text} {0} {}\nTone:"

    def test_a_text_alone_and_among_others_is_encoded_the_same(self, tiny_tokenizer) -> None:
        examples = [example(text=text) for text in ("I laughed.", "What a waste! " * 9, "Nein.")]
        together = Tone().encode(examples, tiny_tokenizer, 24)
        assert together == [Tone().encode([one], tiny_tokenizer, 24)[0] for one in examples]
        assert Tone().encode([], tiny_tokenizer, 24) == []


class TestDecoding:
    def test_logits_become_the_most_probable_label_and_all_probabilities(self) -> None:
        first, second = Tone().decode(np.log(np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)))
        assert (first.label, second.label) == ("harsh", "kind")
        assert first.probabilities == pytest.approx({"harsh": 0.9, "kind": 0.1})
        assert sum(second.probabilities.values()) == pytest.approx(1)

    def test_large_logits_overflow_nothing(self) -> None:
        (prediction,) = Tone().decode(np.array([[1e4, -1e4]], dtype=np.float32))
        assert prediction.probabilities == {"harsh": 1.0, "kind": 0.0}


class TestOptions:
    def test_options_apply_to_a_copy(self) -> None:
        task = Tone()
        configured = task.configured(validated(Tone.Options, {"labels": ["kind", "harsh"], "prompt": "{text}?"}))
        assert (configured.labels, configured.prompt) == (("kind", "harsh"), "{text}?")
        assert (task.labels, task.prompt) == (Tone.labels, Tone.prompt)
        assert task.configured(Tone.Options()).labels == Tone.labels

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"labels": ["kind"]}, "--labels"),
            ({"labels": ["kind", "kind"]}, "a label stands there twice"),
            ({"prompt": ""}, "--prompt"),
            ({"prompt": "Letter:"}, "names the fields"),
            ({"prompt": "{}"}, "names the fields"),
            ({"prompt": "{0}"}, "names the fields"),
            ({"prompt": "{text"}, "expected '}'"),
            ({"tone": "kind"}, "--tone"),
        ],
    )
    def test_a_wrong_option_is_named(self, options, says) -> None:
        with pytest.raises(UsageError) as raised:
            validated(Tone.Options, options)
        assert says in raised.value.message

    def test_what_was_saved_is_restored_through_json(self) -> None:
        fitted, _ = Topics().fitted({"b", "a"}, ["text"], "x.csv")
        trained = fitted.configured(validated(Topics.Options, {"prompt": "{text}!"}))
        restored = Topics().restored(json.loads(json.dumps(trained.state())))
        assert restored.labels == ("a", "b")
        assert restored.prompt == "{text}!"
        assert restored.pair_prompt == Topics.pair_prompt
        assert Topics().labels == ()

    def test_the_description_is_the_first_line(self) -> None:
        assert Tone().description == "Tell harsh from kind letters."
