"""A run as the pipeline of evaluate's evaluators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import evaluate
import pytest
from datasets import Dataset

import gpt_tasks
from gpt_tasks.errors import UsageError


def trained(task: str, folder: Path, **options: Any) -> gpt_tasks.Run:
    return gpt_tasks.finetune(task, output=folder / task, limit=40, **{"method": "head", **options})


def test_a_classifier(tmp_path: Path) -> None:
    run = trained("sentiment", tmp_path)
    texts, labels = ["A warm film.", "A cold film."] * 4, [1, 0] * 4
    found = evaluate.evaluator("text-classification").compute(
        model_or_pipeline=run.as_pipeline(),
        data=Dataset.from_dict({"text": texts, "label": labels}),
        metric=gpt_tasks.as_evaluate_module(run.plugins.registry.metrics["accuracy"], run.task.labels),
        label_mapping={label: index for index, label in enumerate(run.task.labels)},
    )
    right = [
        prediction.label == run.task.labels[label] for prediction, label in zip(run.predict(texts), labels, strict=True)
    ]
    assert found["accuracy"] == sum(right) / len(right)


def test_pairs_of_texts(tmp_path: Path) -> None:
    run = trained("entailment", tmp_path)
    pairs = [{"premise": "It rained.", "hypothesis": "It was wet."}, {"premise": "He ran.", "hypothesis": "He sat."}]
    expected = run.predict(pairs)
    columns = {"first": [pair["premise"] for pair in pairs], "second": [pair["hypothesis"] for pair in pairs]}
    found = evaluate.evaluator("text-classification").compute(
        model_or_pipeline=run.as_pipeline(),
        data=Dataset.from_dict({**columns, "label": [0, 0]}),
        metric=gpt_tasks.as_evaluate_module(run.plugins.registry.metrics["accuracy"], run.task.labels),
        input_column="first",
        second_input_column="second",
        label_mapping={label: index for index, label in enumerate(run.task.labels)},
    )
    assert found["accuracy"] == sum(answer.label == run.task.labels[0] for answer in expected) / 2


def test_an_answer_in_a_context_and_its_place(tmp_path: Path) -> None:
    pipe = trained("qa", tmp_path).as_pipeline()
    (found,) = pipe(question="Who ran home?", context="Ann ran home.", handle_impossible_answer=False)
    assert "Ann ran home."[found["start"] : found["end"]] == found["answer"]
    assert pipe.task == "question-answering"
    assert len(pipe(question=["Who ran?"] * 2, context=["Ann ran home."] * 2)) == 2


def test_words_with_their_tags(tmp_path: Path) -> None:
    run = trained("ner", tmp_path, method="full", epochs=1)
    pipe = run.as_pipeline()
    (found,) = pipe("Ann lives in Paris.", ignore_labels=[])
    assert [each["word"] for each in found] == ["Ann", "lives", "in", "Paris", "."]
    assert {each["entity"] for each in found} <= {"O", *(f"{p}-{kind}" for p in "BI" for kind in run.task.labels)}


def test_a_model_that_writes(tmp_path: Path) -> None:
    model = gpt_tasks.zero_shot("tiny", "summarization")
    pipe = model.as_pipeline()
    data = Dataset.from_dict({"text": ["It rained all day."] * 2, "summary": ["It rained."] * 2})
    found = evaluate.SummarizationEvaluator(task="summarization").compute(
        model_or_pipeline=pipe,
        data=data,
        metric=gpt_tasks.as_evaluate_module(gpt_tasks.exact_match()),
        input_column="text",
        label_column="summary",
    )
    assert found["exact_match"] in (0.0, 1.0)
    assert pipe(["It rained all day."]) == [{"summary_text": str(model.predict("It rained all day."))}]
    other = model.as_pipeline("text-generation")
    assert other(["It rained all day."]) == [[{"generated_text": str(model.predict("It rained all day."))}]]


def test_a_setting_or_a_name_that_is_not_for_the_model_is_refused(tmp_path: Path) -> None:
    model = gpt_tasks.zero_shot("tiny", "sentiment")
    with pytest.raises(UsageError, match="no setting top_k=None"):
        model.as_pipeline()("A warm film.", top_k=None)
    with pytest.raises(UsageError, match="no pipeline for 'summarization'"):
        model.as_pipeline("summarization")
