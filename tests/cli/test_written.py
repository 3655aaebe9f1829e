"""Summaries and translations of a zero-shot model: real samples, several references, languages, metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.types import Row, TextPrediction

TASKS = installed_plugins().registry.tasks


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def translation(**options: str) -> Any:
    task: Any = TASKS["translation"]
    return task.configured(task.Options(**options))


def scored(task: Any, row: Mapping[str, Any], answer: str) -> dict[str, Any]:
    fields = task.fields(list(row), {}, "here")
    example = task.example(Row(row, "here:1"), fields)
    return {name: statistic.value for name, statistic in task.score(example, TextPrediction(answer)).items()}


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("summarization", "summarization/samples"),
        ("translation", "translation/samples/en-de"),
        ("translation", "translation/samples/en-zh"),
    ],
)
def test_the_samples_are_many_distinct_and_never_in_two_splits(task: str, folder: str) -> None:
    import gpt_tasks_plugins

    place = Path(gpt_tasks_plugins.__path__[0]) / folder
    splits = {split: rows(place / f"{split}.jsonl") for split in ("train", "validation", "test")}
    assert sum(map(len, splits.values())) >= {"summarization": 60, "translation": 200}[task]
    first = next(iter(splits["train"][0]))
    texts = [row[first] for some in splits.values() for row in some]
    assert len(set(texts)) == len(texts)
    assert all(text.strip() for some in splits.values() for row in some for text in map(str, row.values()))


def test_a_summary_is_compared_with_every_reference() -> None:
    task = TASKS["summarization"]
    row = {"document": "It rained all day.", "summary": ["A wet day.", "Rain the whole day."]}
    assert scored(task, row, " Rain the whole day.")["rouge2"] == 1.0
    assert scored(task, row, " A wet day.")["rouge2"] == 1.0
    assert scored(task, row, " Sun.")["rouge1"] == 0.0


@pytest.mark.parametrize("nested", [{"en": "Hello.", "de": "Hallo."}, '{"en": "Hello.", "de": "Hallo."}'])
def test_a_translation_may_be_in_one_column(nested: object) -> None:
    task = translation()
    row = {"id": "0", "translation": nested}
    example = task.example(Row(row, "here:1"), task.fields(list(row), {}, "here"))
    assert (example.inputs, example.target) == ({"source": "Hello."}, " Hallo.")
    asked = task.example(Row(row, "here:1"), task.input_fields(list(row), {}, "here"))
    assert (asked.inputs, asked.target) == ({"source": "Hello."}, None)
    french = translation(target_language="fr")
    fields = french.fields(list(row), {}, "here")
    with pytest.raises(DataError, match="here:1: column 'fr' is missing"):
        french.example(Row(row, "here:1"), fields)


def test_a_text_is_not_translated_to_itself() -> None:
    columns = ["en", "de"]
    for mapping in ({"source": "en", "target": "en"}, {"source": "de"}):
        with pytest.raises(DataError, match="both 'source' and 'target' would be read from the column"):
            translation().fields(columns, mapping, "here")
    for options in ({"source_language": "de", "target_language": "de"}, {"target_language": "en"}):
        with pytest.raises(UsageError, match=r"^Both languages are"):
            translation(**options)


def test_no_summary_at_all_is_named() -> None:
    with pytest.raises(DataError, match="here:1: column 'summary' holds no answer"):
        scored(TASKS["summarization"], {"document": "It rained.", "summary": []}, "")


def test_the_prompt_names_the_languages_and_columns_are_their_codes() -> None:
    task = translation(target_language="zh")
    row = {"en": "Good morning.", "zh": "早上好。"}
    fields = task.fields(list(row), {}, "here")
    example = task.example(Row(row, "here:1"), fields)
    (request,) = task.requests(example, "")
    assert request.context == "English: Good morning.\nChinese:"
    assert example.target == " 早上好。"
    back = translation(source_language="zh", target_language="en")
    (request,) = back.requests(back.example(Row(row, "here:1"), back.fields(list(row), {}, "here")), "")
    assert request.context == "Chinese: 早上好。\nEnglish:"
    own = translation(prompt="{source} =")
    assert (
        own.requests(
            own.example(Row({"source": "a", "target": "b"}, ""), {"source": "source", "target": "target"}), ""
        )[0].context
        == "a ="
    )


def test_the_samples_follow_the_languages() -> None:
    assert translation().samples().name == "en-de"
    assert translation(target_language="zh").samples().name == "en-zh"
    assert translation(source_language="de", target_language="en").samples().name == "en-de"
    assert translation(target_language="fr").samples() is None


def test_chinese_is_counted_by_characters() -> None:
    row = {"en": "We go to the park.", "zh": "我们去公园。"}
    chinese = scored(translation(target_language="zh"), row, "我们去学校。")["bleu"]
    # 6 characters of sacrebleu's zh tokenizer, 4 of which are there.
    assert chinese[:3] == (6, 6, 4)
    assert "tok:zh" in translation(target_language="zh").own_metrics[0].signature(1)


@pytest.mark.parametrize("task", ["summarization", "translation"])
def test_a_zero_shot_model_is_evaluated(cli: Any, tiny_backbone_folder: Path, tmp_path: Path, task: str) -> None:
    data = {"summarization": {"document": "Snow fell.", "summary": "Snow."}, "translation": {"en": "Hi.", "de": "He."}}
    lines = [json.dumps({key: f"{text} {n}" for key, text in data[task].items()}) for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    flags = ["--task", task, "--data", tmp_path / "rows.jsonl", "--shots", 1, "--option", "max_tokens=4", "--json"]
    outcome = cli("evaluate", tiny_backbone_folder, *flags, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert list(told["metrics"]) == list(TASKS[task].metrics)
    signed = [
        name
        for note in told["notes"]
        if "|" in note or "rouge-score" in note
        for name in note.split(":")[0].split(", ")
    ]
    assert signed == list(told["metrics"])
    assert told["n"] == 6
    again = cli("evaluate", tiny_backbone_folder, *flags, "--output", tmp_path / "out")
    assert again.code == 2
    assert "out is not empty" in again.err


def test_bleu_is_compared_by_the_bootstrap(tmp_path: Path) -> None:
    """Two folders of answers: one that is right and one that is wrong for half of the rows."""
    from gpt_tasks.evaluation.compare import compare
    from gpt_tasks.scoring.results import ScoredExample, Scores, task_scores, write_scores

    task, folders = translation(), []
    for name, wrong in (("a", 20), ("b", 0)):
        every = []
        for n in range(40):
            text = f"Der Hund Nummer {n} schläft im Garten."
            example = task.example(
                Row({"source": f"Dog {n}", "target": text}, f"x:{n}"), {"source": "source", "target": "target"}
            )
            answer = "Etwas ganz anderes steht hier jetzt." if n < wrong else text
            found = task.score(example, task.prediction(example, [answer]))
            every.append(ScoredExample("t", example, None, [answer], found, 0))
        folder = tmp_path / name
        folder.mkdir()
        tasks = (task_scores("t", "translation", 0, task.own_metrics, every),)
        write_scores(folder, Scores({"name": "t", "sha256": ""}, {"spec": name}, {}, {}, tasks), every)
        folders.append(folder)
    contrasts = {contrast.metric: contrast for contrast in compare(folders).contrasts}
    assert set(contrasts) == {"bleu", "chrf"}
    assert contrasts["bleu"].value == pytest.approx(100)
    assert 0 < contrasts["bleu"].low <= contrasts["bleu"].difference <= contrasts["bleu"].high < 100
    assert contrasts["bleu"].p_value < 0.01
