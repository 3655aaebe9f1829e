"""Splits that leak nothing, labels that are settled once, and what each unusable row gets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt_tasks.data.draws import stratified_sample
from gpt_tasks.data.examples import Examples
from gpt_tasks.data.sources import open_source
from gpt_tasks.data.splits import Splits, choose_split, load_examples, load_splits
from gpt_tasks.data.stream import stream_examples
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.tasks.classification import ClassificationTask


class Mood(ClassificationTask):
    """Tell the mood of a text."""

    name = "mood"
    labels = ("sad", "glad")


class Topic(ClassificationTask):
    """Tell what a text, or a pair of texts, is about."""

    name = "topic"
    pair_prompt = "{text_a}\n{text_b}"


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(count: int, labels: str = "ab", name: str = "text") -> list[dict[str, Any]]:
    return [{"text": f"{name} {number}", "label": labels[number % len(labels)]} for number in range(count)]


def load(folder: Path, data: Path | None, task: ClassificationTask | None = None, **others: Any) -> Splits:
    settings = {"seed": 0, "schemes": {}, "scratch": folder / "scratch", **others}
    return load_splits(task or Topic(), data=data, **settings)


def texts(examples: Examples) -> set[str]:
    return set(examples.texts("text"))


def error(kind: type[Exception], call: Any) -> str:
    with pytest.raises(kind) as caught:
        call()
    message: str = caught.value.message  # type: ignore[attr-defined]
    assert "\n" not in message
    assert caught.value.hint  # type: ignore[attr-defined]
    return message


def test_one_file_is_split_in_tenths_with_each_labels_share(tmp_path: Path) -> None:
    splits = load(tmp_path, write(tmp_path / "r.jsonl", rows(1000, "aaab")))
    assert [Counter(part.targets()) for part in (splits.validation, splits.test)] == [{"a": 75, "b": 25}] * 2
    assert len(texts(splits.train) | texts(splits.validation) | texts(splits.test)) == 1000
    assert splits.task.labels == ("a", "b")
    assert "train 800, validation 100, test 100 rows" in splits.notes[0]


def test_the_draw_hangs_on_the_seed_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", rows(100))
    first, again, other = (load(tmp_path, path, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert texts(first.test) == texts(again.test) != texts(other.test)


def test_small_sets_keep_every_label_in_train(tmp_path: Path) -> None:
    data = [*rows(3, "a"), *rows(3, "b", "more"), *rows(1, "c", "rare")]
    splits = load(tmp_path, write(tmp_path / "r.jsonl", data))
    assert Counter(splits.train.targets()) == {"a": 1, "b": 1, "c": 1}
    assert Counter(splits.validation.targets()) == Counter(splits.test.targets()) == {"a": 1, "b": 1}
    few = write(tmp_path / "few.jsonl", rows(4))
    assert ": 4 rows are too few to draw a validation split" in error(DataError, lambda: load(tmp_path, few))


def test_drawn_splits_are_never_larger_than_ten_thousand_texts(tmp_path: Path) -> None:
    splits = load(tmp_path, write(tmp_path / "r.jsonl", rows(120_000)))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [100_000, 10_000, 10_000]


def test_a_folders_own_splits_are_used_and_a_missing_one_is_drawn(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.jsonl", rows(50))
    write(tmp_path / "d" / "test.jsonl", rows(10, name="other"))
    splits = load(tmp_path, tmp_path / "d")
    assert texts(splits.test) == {f"other {number}" for number in range(10)}
    assert (len(splits.train), len(splits.validation)) == (46, 4)
    given = load(tmp_path, tmp_path / "d", validation=write(tmp_path / "v.jsonl", rows(6, name="third")))
    assert (len(given.train), len(given.validation), len(given.test)) == (50, 6, 10)


def test_without_data_the_samples_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "task 'topic' has no embedded samples" in error(UsageError, lambda: load(tmp_path, None))
    write(tmp_path / "samples" / "train.jsonl", rows(40))
    monkeypatch.setattr(Topic, "samples", lambda self: tmp_path / "samples")
    assert len(load(tmp_path, None).train) == 32
    assert "--encoding cp1251 has no effect" in error(UsageError, lambda: load(tmp_path, None, encoding="cp1251"))


def test_a_folder_without_train_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "d" / "test.jsonl", rows(10))
    assert "holds test, but nothing to train on" in error(DataError, lambda: load(tmp_path, tmp_path / "d"))


def test_rows_in_two_splits_are_left_out_of_validation_and_test(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.jsonl", rows(20))
    spaced = [{"text": " text\t 1 ", "label": "b"}, {"text": "TEXT 2", "label": "a"}]
    write(tmp_path / "d" / "validation.jsonl", [*spaced, *rows(5, name="shared"), *rows(5, name="own")])
    write(tmp_path / "d" / "test.jsonl", [*rows(3), *rows(5, name="shared")])
    splits = load(tmp_path, tmp_path / "d")
    assert splits.duplicates == {"validation": 6, "test": 3}
    assert texts(splits.validation) == {"TEXT 2", *(f"own {number}" for number in range(5))}
    assert texts(splits.test) == {f"shared {number}" for number in range(5)}
    assert len(splits.train) == 20
    assert "Left out of validation, as their text is in train or test too: 6 of its rows." in splits.notes


def test_copies_within_one_file_never_part(tmp_path: Path) -> None:
    data = [
        {"text": f"text{' ' * (1 + copy)}{number}", "label": "ab"[number % 2]}
        for number in range(60)
        for copy in (0, 1)
    ]
    splits = load(tmp_path, write(tmp_path / "r.jsonl", data))
    parts = [
        {" ".join(text.split()) for text in part.texts("text")}
        for part in (splits.train, splits.validation, splits.test)
    ]
    assert [len(part) for part in parts] == [48, 6, 6]
    assert len(set.union(*parts)) == 60
    assert splits.duplicates == {"validation": 0, "test": 0}
    assert any(note.startswith("60 rows repeat the text of another") for note in splits.notes)


def test_a_split_that_is_nothing_but_copies_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", rows(20))
    message = error(DataError, lambda: load(tmp_path, path, validation=path))
    assert message == "Every row of validation is in train or test too, so that nothing is left to evaluate on"


def test_limit_caps_train_with_each_labels_share_and_the_others_in_proportion(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", rows(1000, "aaab"))
    whole, limited = load(tmp_path, path), load(tmp_path, path, limit=40)
    assert Counter(limited.train.targets()) == {"a": 30, "b": 10}
    assert texts(limited.train) < texts(whole.train)
    for split in ("validation", "test"):
        assert texts(getattr(limited, split)) < texts(getattr(whole, split))
        assert Counter(getattr(limited, split).targets()) == {"a": 4, "b": 1}
    assert limited.notes[-3:] == (
        "Trains on 40 of 800 rows (--limit).",
        "Validates on 5 of 100 rows (in proportion to --limit).",
        "Tests on 5 of 100 rows (in proportion to --limit).",
    )
    chosen = load(tmp_path, path, limit=40, limit_test=50)
    assert (len(chosen.train), len(chosen.validation), len(chosen.test)) == (40, 5, 50)
    assert texts(load(tmp_path, path, limit_test=50).train) == texts(whole.train)
    assert len(load(tmp_path, path, limit=5000).train) == 800
    assert "--limit 1: train has 2 labels" in error(UsageError, lambda: load(tmp_path, path, limit=1))


def test_stratified_draws_the_requested_number_and_every_rare_label() -> None:
    labels = np.array([0] * 1000 + [1] * 3 + [2] + [3])
    for size in (4, 5, 7, 100, 1004):
        chosen = stratified_sample(labels, size, np.random.default_rng(0))
        assert len(set(chosen)) == size
        assert set(labels[chosen]) == {0, 1, 2, 3}


def test_labels_are_coded_in_the_models_order_for_any_order_of_the_data(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.jsonl", [{"text": f"t {n}", "label": 1 - n % 2} for n in range(20)])
    write(tmp_path / "d" / "test.jsonl", [{"text": "x", "label": "sad"}, {"text": "y", "label": 1}])
    splits = load(tmp_path, tmp_path / "d", Mood())
    assert splits.test.labels.tolist() == [0, 1]
    assert [example.target for example in splits.test] == ["sad", "glad"]
    assert all((example.target == "glad") == (int(example.inputs["text"][2:]) % 2 == 0) for example in splits.train)


def test_columns_are_mapped_and_one_is_available_for_slices(tmp_path: Path) -> None:
    data = [{"review": f"r {n}", "stars": n % 2, "town": ["Bern", None][n % 2]} for n in range(20)]
    path = write(tmp_path / "r.jsonl", data)
    splits = load(tmp_path, path, columns={"text": "review", "label": "stars"}, by="town")
    assert {(example.target, example.extra["town"]) for example in splits.train} == {("0", "Bern"), ("1", "")}
    message = error(DataError, lambda: load(tmp_path, path, columns={"text": "review", "label": "stars"}, by="city"))
    assert message == "r.jsonl: there is no column 'city'; the columns are review, stars, town"


def test_a_missing_column_is_reported_with_those_that_are_there_and_the_flag(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [{"review": "good", "label": "a"}])
    with pytest.raises(DataError) as caught:
        load(tmp_path, path)
    assert caught.value.message == "r.jsonl: there is no column 'text'; the columns are review, label"
    assert "--column text=NAME" in caught.value.hint


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": "  ", "label": "a"}, "r.jsonl:21: column 'text' is empty"),
        ({"text": ["x"], "label": "a"}, "r.jsonl:21: column 'text' holds a list, not a text"),
        ({"label": "a"}, "r.jsonl:21: column 'text' is missing"),
        ({"text": "x"}, "r.jsonl:21: the label (column 'label') is missing"),
        ({"text": "x", "label": ""}, "r.jsonl:21: the label (column 'label') is missing"),
        ({"text": "x", "label": {"a": 1}}, "r.jsonl:21: the label (column 'label') is a dict"),
        ({"text": "x \ud83d", "label": "a"}, "r.jsonl:21: the text holds half a character ('\\ud83d')"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: Mapping[str, Any], told: str) -> None:
    path = write(tmp_path / "r.jsonl", [*rows(20), row])
    assert told in error(DataError, lambda: load(tmp_path, path))


def test_a_file_of_one_label_or_of_none_is_reported(tmp_path: Path) -> None:
    single = write(tmp_path / "single.jsonl", rows(20, "a"))
    assert "every row has the label 'a'" in error(DataError, lambda: load(tmp_path, single))
    none = write(tmp_path / "none.jsonl", [{"text": f"t {n}"} for n in range(20)])
    message = error(DataError, lambda: load(tmp_path, none))
    assert message == "none.jsonl: there is no column 'label'; the columns are text"
    (tmp_path / "bare.csv").write_text("text,label\n", encoding="utf-8")
    assert "bare.csv: there are no rows" in error(DataError, lambda: load(tmp_path, tmp_path / "bare.csv"))


def test_a_label_seen_only_in_validation_is_reported_with_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", rows(20))
    validation = write(tmp_path / "v.jsonl", [*rows(3, name="v"), {"text": "odd", "label": "c"}])
    message = error(DataError, lambda: load(tmp_path, path, validation=validation))
    assert message == "v.jsonl:4: label 'c' is not one of a, b"
    many = [{"text": f"odd {n}", "label": "cd"[n % 2]} for n in range(8)]
    validation = write(tmp_path / "v.jsonl", [*rows(3, name="v"), *many])
    message = error(DataError, lambda: load(tmp_path, path, validation=validation))
    assert message.startswith(
        "v.jsonl: 8 of 11 rows cannot be used: v.jsonl:4: label 'c' is not one of a, b; v.jsonl:5: "
    )
    assert message.endswith("v.jsonl:8: label 'c' is not one of a, b; and others")


def test_a_declared_label_that_train_lacks_is_noted(tmp_path: Path) -> None:
    task = Topic().configured(Topic.Options(labels=("a", "b", "c")))
    test = write(tmp_path / "t.jsonl", rows(3, "abc", "t"))
    splits = load(tmp_path, write(tmp_path / "r.jsonl", rows(20)), task, test=test)
    assert "No row of train has the label 'c', which test holds." in splits.notes


def test_a_published_test_split_without_labels_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.jsonl", rows(40))
    write(tmp_path / "d" / "validation.jsonl", rows(8, name="v"))
    secret = write(tmp_path / "d" / "test.jsonl", [{"text": "x", "label": None}])
    splits = load(tmp_path, tmp_path / "d")
    assert (len(splits.train), len(splits.test)) == (36, 4)
    assert splits.notes[0].startswith("The test split of d/ has no labels")
    assert "is missing" in error(DataError, lambda: load(tmp_path, tmp_path / "d", test=secret))


def test_an_unlabelled_test_split_is_a_note_also_where_the_label_is_mapped(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.jsonl", [{"text": f"text {n}", "mood": "ab"[n % 2]} for n in range(40)])
    write(tmp_path / "d" / "test.jsonl", [{"text": "unknown"}])
    splits = load(tmp_path, tmp_path / "d", columns={"label": "mood"})
    assert splits.notes[0].startswith("The test split of d/ has no labels")


def test_splits_of_other_columns_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", rows(20))
    pairs = write(tmp_path / "p.jsonl", [{"text_a": "x", "text_b": "y", "label": "a"}])
    message = error(DataError, lambda: load(tmp_path, path, test=pairs))
    assert message == "p.jsonl:1: this split is read by text_a, text_b, train by text"


def test_evaluation_needs_labels_and_prediction_looks_at_none(tmp_path: Path) -> None:
    task, scratch = Mood(), tmp_path / "scratch"
    none = open_source(write(tmp_path / "none.jsonl", [{"text": "x"}, {"text": "x"}]), {})
    message = error(DataError, lambda: load_examples(task, none, "all", scratch=scratch))
    assert message == "none.jsonl: there is no column 'label'; the columns are text"
    odd = open_source(
        write(tmp_path / "odd.jsonl", [{"text": "x", "label": "sad"}, {"text": "y", "label": "gladd"}]), {}
    )
    with pytest.raises(DataError, match=r"odd\.jsonl:2: label 'gladd' is not one of sad, glad\nDid you mean 'glad'\?"):
        load_examples(task, odd, "all", scratch=scratch)
    for source in (none, odd):
        examples = list(stream_examples(task, source, "all", columns={}, need_labels=False).examples())
        assert [example.target for example in examples] == [None, None]


def test_evaluation_takes_the_test_split_by_default(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write(tmp_path / "d" / f"{split}.jsonl", rows(2, name=split))
    source = open_source(tmp_path / "d", {})
    assert choose_split(source, None) == "test"
    assert choose_split(source, "train") == "train"
    task = Topic().configured(Topic.Options(labels=("a", "b")))
    examples, _ = load_examples(task, source, "train", scratch=tmp_path / "scratch")
    assert texts(examples) == {"train 0", "train 1"}
    (tmp_path / "d" / "test.jsonl").unlink()
    message = error(UsageError, lambda: choose_split(open_source(tmp_path / "d", {}), "test"))
    assert message == "d/ has no split 'test'; it has train, validation"
