"""What a classification task makes of labels, columns, texts and answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.statistics import Tally
from gpt_tasks.metrics import METRICS
from gpt_tasks.metrics.intervals import wilson
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.options import validated
from gpt_tasks.types import Continuation, Example, LogLikelihood, Prediction, Row, Statistic


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


def fitted(
    task: ClassificationTask, observed: Iterable[str], where: str = "letters.csv"
) -> tuple[ClassificationTask, dict[str, str]]:
    """The task, fitted to training data that hold these labels, and what each of them means."""
    train: Any = SimpleNamespace(fields=("text",), observed=dict.fromkeys(observed, 1))
    found = task.fit(train, where)
    return found, {label: found.normalize_label(label, where) for label in observed}


class TestLabels:
    def test_all_declared_has_the_declared_order(self) -> None:
        task, meaning = fitted(Tone(), {"kind", "harsh"})
        assert task.labels == ("harsh", "kind")
        assert meaning == {"kind": "kind", "harsh": "harsh"}

    def test_some_of_many_declared_includes_all_the_declared(self) -> None:
        class Three(Tone):
            labels = ("harsh", "plain", "kind")

        task, _ = fitted(Three(), {"kind", "harsh"})
        assert task.labels == ("harsh", "plain", "kind")

    def test_some_not_declared_change_nothing_and_are_refused_by_their_rows(self) -> None:
        train: Any = SimpleNamespace(fields=("text",), observed={"kind": 1, "harsh": 1, "zebra": 1, "harsch": 1})
        task = Tone().fit(train, "letters.csv")
        assert task.labels == ("harsh", "kind")
        with pytest.raises(DataError, match="r:3: label 'harsch' is not one of harsh, kind\nDid you mean 'harsh'"):
            task.normalize_label("harsch", "r:3")
        with pytest.raises(DataError, match=r"name this label too \(--labels; "):
            task.normalize_label("zebra", "r:4")

    def test_where_one_is_left_those_not_declared_are_the_reason(self) -> None:
        with pytest.raises(DataError, match=r"letters\.csv: label 'harsch' is not one of harsh, kind"):
            fitted(Tone(), ["kind", "harsch"])

    def test_none_declared_takes_the_datas_own_sorted(self) -> None:
        task, meaning = fitted(Tone(), {"wood", "iron", "10", "9"})
        assert task.labels == ("9", "10", "iron", "wood")
        assert set(meaning) == set(meaning.values()) == set(task.labels)

    def test_a_task_that_declares_none_takes_the_datas_own(self) -> None:
        assert fitted(Topics(), {"b", "a"}, "x.csv")[0].labels == ("a", "b")
        assert fitted(Topics(), {"1", "0", "10", "2"}, "x.csv")[0].labels == ("0", "1", "2", "10")

    def test_whole_numbers_index_the_declared_ones(self) -> None:
        task, meaning = fitted(Tone(), {"1", "0"})
        assert task.labels == ("harsh", "kind")
        assert meaning == {"0": "harsh", "1": "kind"}

    def test_a_number_beyond_the_declared_ones_is_an_error(self) -> None:
        with pytest.raises(DataError, match=r"letters.csv: label '2' is not one of harsh, kind"):
            fitted(Tone(), {"1", "2"}, "letters.csv")

    def test_declared_numbers_are_names_and_no_places(self) -> None:
        class Stars(Tone):
            labels = ("1", "0")

        task, meaning = fitted(Stars(), {"0", "1"})
        assert task.labels == ("1", "0")
        assert meaning == {"0": "0", "1": "1"}

    @pytest.mark.parametrize("observed", [{"kind"}, {"1"}, {"iron"}])
    def test_a_single_label_is_an_error(self, observed) -> None:
        with pytest.raises(DataError, match=r"letters.csv: every row has the label"):
            fitted(Tone(), observed, "letters.csv")

    def test_numbers_count_declared_labels_only(self) -> None:
        """The data's own labels are sorted: a number of the data set they come from means another of them."""
        found, _ = fitted(Topics(), {"World", "Sports", "Business"}, "news.csv")
        for task in (found, Topics().restored(found.state())):
            with pytest.raises(DataError, match="label '0' is not one of Business, Sports, World") as raised:
                task.normalize_label("0", "later.csv:2")
            assert "by their names" in raised.value.hint
        declared, _ = fitted(Tone(), {"kind", "harsh"}, "letters.csv")
        assert Tone().restored(declared.state()).normalize_label("0", "") == "harsh"

    def test_fitting_leaves_the_registered_task_as_it_was(self) -> None:
        task = Topics()
        fitted(task, {"a", "b"}, "x.csv")
        assert task.labels == ()

    def test_a_label_of_later_data_is_found_or_named(self) -> None:
        assert Tone().normalize_label("kind", "") == "kind"
        assert Tone().normalize_label("0", "") == "harsh"
        with pytest.raises(DataError) as raised:
            Tone().normalize_label("knid", "test.csv:3")
        assert raised.value.message == "test.csv:3: label 'knid' is not one of harsh, kind"
        assert raised.value.hint == "Did you mean 'kind'?"

    @pytest.mark.parametrize(
        ("value", "label"),
        [
            ("kind", "kind"),
            (" kind ", "kind"),
            (1, "1"),
            (1.0, "1"),
            (True, "true"),
            (np.int64(1), "1"),
            (0.5, "0.5"),
            (["kind"], "kind"),
        ],
    )
    def test_a_label_is_read_as_text(self, value, label) -> None:
        example = Tone().example(row(letter="Dear", tone=value), {"text": "letter", "label": "tone"})
        assert example.target == label

    @pytest.mark.parametrize("value", [None, "", "  ", float("nan")])
    def test_a_missing_label_is_an_error(self, value) -> None:
        with pytest.raises(DataError, match=r"letters.csv:7: the label \(column 'tone'\) is missing"):
            Tone().example(row(letter="Dear", tone=value), {"text": "letter", "label": "tone"})

    @pytest.mark.parametrize("value", [["kind", "harsh"], {"tone": "kind"}])
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
        assert Tone().input_fields(["letter"], {}, "x.csv") == {"text": "letter"}
        assert Tone().input_fields(["letter"], {"label": "stars"}, "x.csv") == {"text": "letter"}

    def test_labels_that_are_needed_and_missing_are_reported_with_the_flag(self) -> None:
        with pytest.raises(DataError) as raised:
            Tone().fields(["letter"], {}, "x.csv")
        assert raised.value.message == "x.csv: there is no column 'tone'; the columns are letter"
        assert "--column label=NAME" in raised.value.hint

    def test_a_missing_column_is_reported_with_those_there_and_the_flag(self) -> None:
        with pytest.raises(DataError) as raised:
            Tone().fields(["body", "stars"], {}, "x.csv")
        assert raised.value.message == "x.csv: there is no column 'letter'; the columns are body, stars"
        assert "--column text=NAME" in raised.value.hint

    def test_a_mapped_label_that_is_missing_is_an_error(self) -> None:
        with pytest.raises(DataError, match="there is no column 'stars'"):
            Tone().fields(["letter"], {"label": "stars"}, "x.csv")

    def test_a_field_that_the_task_has_not_is_an_error(self) -> None:
        with pytest.raises(UsageError) as raised:
            Tone().input_fields(["letter"], {"txt": "letter"}, "x.csv")
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
        fields = task.input_fields(["head", "letter"], {"subject": "head"}, "x.csv")
        assert fields == {"subject": "head", "text": "letter"}

    def test_inputs_are_in_the_order_of_the_prompt_and_extra_columns_are_text(self) -> None:
        columns = Title().input_fields(["body", "headline", "year"], {}, "x.csv")
        example = Title().example(row(body="B", headline="H", year=1999), columns, extra=["year", "none"])
        assert list(example.inputs) == ["title", "body"]
        assert example.extra == {"year": "1999", "none": ""}
        assert example.target is None

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (None, "column 'letter' is empty"),
            ("", "column 'letter' is empty"),
            (" \n", "column 'letter' is empty"),
            (["a", "b"], "column 'letter' holds a list"),
            (float("nan"), "column 'letter' is empty"),
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
    def test_a_long_text_is_cut_and_the_prompt_is_not(self, tiny_tokenizer, length, text) -> None:
        full = tiny_tokenizer(Tone.prompt.format(text=text))["input_ids"]
        (encoded,) = cutting(Tone()).encode([example(text=text)], tiny_tokenizer, length)
        read = tiny_tokenizer.decode(encoded.input_ids)
        assert len(encoded.input_ids) == min(length, len(full)) or len(encoded.input_ids) < length < len(full)
        assert encoded.truncated == len(full) - len(encoded.input_ids)
        assert read.startswith("Letter: ")
        assert read.endswith("\nTone:")
        # The cut may fall within a character of several tokens.
        assert text.startswith(read.removeprefix("Letter: ").removesuffix("\nTone:").rstrip("\ufffd"))

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
        first, second = tiny_tokenizer.decode(encoded.input_ids).removesuffix("\nLabel:").split(" / ")
        assert len(encoded.input_ids) == 40
        one, other = (len(tiny_tokenizer(text)["input_ids"]) for text in (first, f" {second}"))
        assert abs(one - other) <= 1

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


def predicted(label: str, **probabilities: float) -> Prediction:
    return Prediction(label, probabilities)


class TestAnswers:
    target = Example({"text": "Dear"}, "kind", "letters.csv:2")

    def test_probabilities_become_the_most_probable_label_and_all_of_them(self) -> None:
        first, second = Tone().predictions(np.array([[0.9, 0.1], [0.25, 0.75]]))
        assert first == predicted("harsh", harsh=0.9, kind=0.1)
        assert second == predicted("kind", harsh=0.25, kind=0.75)

    def test_what_a_label_contributes_is_whether_it_is_right(self) -> None:
        right, wrong = predicted("kind", harsh=0.1, kind=0.9), predicted("harsh", harsh=0.6, kind=0.4)
        assert Tone().score(self.target, right) == {"accuracy": Statistic(1.0), "micro_f1": Statistic(1.0)}
        # Those of METRICS that are functions of all rows get nothing from one example.
        found = Tone().contributions(METRICS, self.target, wrong)
        assert found == {"accuracy": Statistic(0.0), "micro_f1": Statistic(0.0)}
        assert Tone().compared(self.target, wrong) == ("harsh", ("kind",))
        assert list(Tone().decisions(self.target, wrong)) == [("kind", "harsh")]
        assert Tone().probability(wrong) == 0.6

    def test_an_evaluation_collects_them_chunk_by_chunk(self) -> None:
        rows = [("kind", 0.9), ("harsh", 0.4), ("kind", 0.2), ("harsh", 0.7)]
        tally = Tally(Tone(), METRICS)
        for label, p in rows:
            found = Tone().predictions(np.array([[1 - p, p]]))
            tally.add([Example({"text": "Dear"}, label, "")], found)
        scores = tally.scores()
        assert [scores[name].value for name in ("accuracy", "micro_f1", "mcc")] == pytest.approx([0.5, 0.5, 0.0])
        assert scores["ece"].value == pytest.approx((0.1 + 0.4 + 0.8 + 0.7) / 4)
        assert {name: score.value for name, score in scores.items()} == tally.values()
        assert (scores["accuracy"].low, scores["accuracy"].high) == pytest.approx(wilson(2, 4))
        some = tally.scores(np.array([0, 1]))
        assert (some["accuracy"].value, some["macro_f1"].value, some["mcc"].n) == (1.0, 1.0, 2)

    def test_of_a_thousand_labels_probabilities_take_half_the_memory(self) -> None:
        task = Topics()
        task.labels = tuple(f"label {place}" for place in range(1000))
        probabilities = np.random.default_rng(0).dirichlet(np.ones(1000), 6)
        tally = Tally(task, METRICS)
        for some in (probabilities[:4], probabilities[4:]):
            tally.add([Example({"text": "Dear"}, "label 3", "")] * len(some), task.predictions(some))
        rows = tally._rows(None)
        assert rows.probabilities is not None
        assert rows.probabilities.nbytes == 6 * 1000 * 4
        assert rows.probabilities == pytest.approx(probabilities, rel=1e-6)
        assert tally.values()["ece"] == pytest.approx(probabilities.max(1).mean())

    def test_a_line_of_a_file_holds_the_hundred_most_probable_labels(self) -> None:
        task = Topics()
        task.labels = tuple(f"label {place}" for place in range(150))
        (prediction,) = task.predictions(np.arange(150)[None] / np.arange(150).sum())
        line = task.line(self.target, prediction)
        assert list(line["probabilities"]) == [f"label {place}" for place in range(149, 49, -1)]
        assert len(task.to_json(prediction)["probabilities"]) == 150

    def test_a_line_of_a_file_holds_text_label_and_probabilities(self) -> None:
        line = Tone().line(self.target, predicted("harsh", harsh=2 / 3, kind=1 / 3))
        probabilities = {"harsh": 0.666667, "kind": 0.333333}
        assert line == {"text": "Dear", "label": "kind", "predicted": "harsh", "probabilities": probabilities}
        assert Tone().table_row("Dear", predicted("kind", harsh=0.1, kind=0.9)) == {
            "label": "kind",
            "probability": "90.0%",
            "text": "Dear",
        }

    def test_without_training_the_likelihoods_of_the_labels_words_are_compared(self) -> None:
        task = Tone().prompted(None, {"harsh": "rude"})
        asked = "Before.\n\nLetter: Dear\nTone:"
        assert task.requests(self.target, "Before.\n\n") == [
            Continuation(asked, " rude"),
            Continuation(asked, " kind"),
        ]
        answer = task.prediction(self.target, [LogLikelihood(np.log(0.1), False), LogLikelihood(np.log(0.3), False)])
        assert answer.label == "kind"
        assert answer.probabilities == pytest.approx({"harsh": 0.25, "kind": 0.75})
        assert task.fewshot_example(self.target) == "Letter: Dear\nTone: kind"
        impossible = [LogLikelihood(-np.inf, False)] * 2
        assert task.prediction(self.target, impossible).probabilities == {"harsh": 0.5, "kind": 0.5}

    def test_a_prompt_that_ends_with_a_text_is_asked_and_trained_with_a_line_for_the_label(self) -> None:
        task = Topics()
        task.labels = ("one", "other")
        pair = example(text_a="Short.", text_b="Long.")
        assert task.requests(pair, "")[0].context.endswith("Long.\nLabel:")
        assert task.trained_prompt(pair.inputs) == "{text_a} / {text_b}\nLabel:"
        given = task.configured(validated(Topics.Options, {"prompt": "{text_a}"}))
        assert given.trained_prompt({"text_a": "Short."}) == "{text_a}"

    def test_runs_from_before_are_read_by_their_prompt(self) -> None:
        state = Topics().state()
        assert Topics().restored(state).trained_prompt({"text": ""}).endswith("\nLabel:")
        old = {name: value for name, value in state.items() if name not in ("question", "reads_question")}
        assert Topics().restored(old).trained_prompt({"text": ""}) == Topics.prompt

    def test_a_question_about_other_fields_is_not_trained_on(self) -> None:
        task = Tone()
        task.question = "Letter: {text} by {author}\nTone:"
        assert task.trained_prompt({"text": "Dear"}) == Tone.prompt


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
            ({"labels": ["kind", "kind"]}, "a label appears twice"),
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
        found, _ = fitted(Topics(), {"b", "a"}, "x.csv")
        trained = found.configured(validated(Topics.Options, {"prompt": "{text}!"}))
        restored = Topics().restored(json.loads(json.dumps(trained.state())))
        assert restored.labels == ("a", "b")
        assert restored.prompt == "{text}!"
        assert restored.pair_prompt == Topics.pair_prompt
        assert Topics().labels == ()

    def test_a_state_of_older_names_is_restored_by_the_names_of_today(self) -> None:
        assert Tone().restored({"introduction": "Letters follow."}).instruction == "Letters follow."

    def test_the_description_is_the_first_line(self) -> None:
        assert Tone().description == "Tell harsh from kind letters."
