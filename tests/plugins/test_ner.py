"""Named entities: how data are read, what is refused, what is learned on which token, and how it is judged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt_tasks_plugins.ner.conll import read_conll
from gpt_tasks_plugins.ner.decoding import best_path, longest_matches, words_and_tokens
from gpt_tasks_plugins.ner.entities import Entities, Entity, marked, spans_of, tags_of
from gpt_tasks_plugins.ner.spans import Span, words_of
from gpt_tasks_plugins.ner.task import NamedEntities
from seqeval.metrics import accuracy_score, classification_report, f1_score
from seqeval.scheme import IOB2

import gpt_tasks
from gpt_tasks.cli.main import run as command
from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.data.sources import open_source
from gpt_tasks.data.splits import load_examples
from gpt_tasks.data.stream import stream_examples
from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.statistics import metric_values
from gpt_tasks.evaluation.tables import print_report
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.testing.fixture import TaskFixture
from gpt_tasks.types import Example, Row

CONLL = """-DOCSTART- -X- O O

Ann NNP B-NP B-PER
Smith NNP I-NP I-PER
left VBD B-VP O
Paris NNP B-NP B-LOC
. . O O

She PRP B-NP O
sang VBD B-VP O
"""
TEXT = "Ann Smith left Paris."
SPANS = [Span(0, 9, "PER"), Span(15, 20, "LOC")]


def read(values: dict[str, Any], task: NamedEntities | None = None) -> Example:
    task = task or NamedEntities()
    row = Row(values, "rows.jsonl:3")
    return task.example(row, task.fields(list(values), {}, "rows.jsonl"))


def fitted(**options: Any) -> NamedEntities:
    task = NamedEntities().configured(NamedEntities.Options(**options))
    task.labels = ("LOC", "PER")
    return task


# Reading.


def test_conll_is_read_by_sentences_with_their_lines() -> None:
    rows = list(read_conll(CONLL.splitlines(), "a.conll"))
    assert [row.where for row in rows] == ["a.conll:3", "a.conll:9"]
    assert rows[0].values == {
        "tokens": ["Ann", "Smith", "left", "Paris", "."],
        "tags": ["B-PER", "I-PER", "O", "B-LOC", "O"],
    }


@pytest.mark.parametrize(
    "lines", [["Ann\tB-PER", "ran\tO"], ["Ann NNP B-PER", "ran VBD O"], ["Ann B-PER", "ran O", ""]]
)
def test_two_to_four_columns_by_tabs_or_spaces(lines: list[str]) -> None:
    (row,) = read_conll(lines, "a.conll")
    assert row.values == {"tokens": ["Ann", "ran"], "tags": ["B-PER", "O"]}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["Ann B-PER", "ran"], "a.conll:2: the line has 1 columns, those before have 2: 'ran'"),
        (["Ann B-PER", "ran V O"], "a.conll:2: the line has 3 columns, those before have 2: 'ran V O'"),
        (["Ann"], "a.conll:1: the line has 1 columns, not 2 to 4: 'Ann'"),
        (["Ann\t"], "a.conll:1: the line has 1 columns, not 2 to 4: 'Ann'"),
        (["a b c d B-PER"], "a.conll:1: the line has 5 columns, not 2 to 4: 'a b c d B-PER'"),
        (["Ann\tB-PER", "\tO"], "a.conll:2: column 1 of the line is empty: '\\tO'"),
        (["Ann\tNNP\tB-PER", "ran\t\tO"], "a.conll:2: column 2 of the line is empty: 'ran\\t\\tO'"),
    ],
)
def test_a_sentence_with_a_broken_line_is_named_and_the_next_is_read(lines: list[str], said: str) -> None:
    following = lines[:1] if len(lines) > 1 else ["Eve O"]
    broken, whole = read_conll([*lines, "", *following], "a.conll")
    assert isinstance(broken, BrokenRow)
    assert (broken.where, broken.error.message) == ("a.conll:1", said)
    assert len(whole.values["tokens"]) == 1


def test_a_tab_at_the_end_of_a_line_is_no_column() -> None:
    (row,) = read_conll(["Ann\tB-PER\t", "ran\tO", "\t"], "a.conll")
    assert row.values == {"tokens": ["Ann", "ran"], "tags": ["B-PER", "O"]}


@pytest.mark.parametrize(
    "tags",
    [
        ["B-PER", "I-PER", "O", "B-LOC", "O"],
        ["B-PER", "E-PER", "O", "S-LOC", "O"],
        ["B-PER", "L-PER", "O", "U-LOC", "O"],
    ],
    ids=["BIO", "IOBES", "BILOU"],
)
def test_tags_of_every_scheme_are_the_same_spans(tags: list[str]) -> None:
    example = read({"tokens": ["Ann", "Smith", "left", "Paris", "."], "tags": tags})
    assert example.inputs == {"text": "Ann Smith left Paris ."}
    assert spans_of(example.target) == SPANS


def test_an_entity_that_begins_with_i_is_read_and_counted() -> None:
    example = read({"tokens": ["Ann", "and", "Paris", "Rome"], "tags": ["I-PER", "O", "I-LOC", "I-PER"]})
    assert spans_of(example.target) == [Span(0, 3, "PER"), Span(8, 13, "LOC"), Span(14, 18, "PER")]
    assert json.loads(str(example.target))[1] == 3


@pytest.mark.parametrize(
    "values",
    [
        {"text": TEXT, "spans": [{"start": 15, "end": 20, "label": "LOC"}, {"start": 0, "end": 9, "label": "PER"}]},
        {"text": TEXT, "label": [[0, 9, "PER"], [15, 20, "LOC"]]},
        {"id": 7, "text": TEXT, "entities": [{"id": 1, "label": "PER", "start_offset": 0, "end_offset": 9},
                                    {"id": 2, "label": "LOC", "start_offset": 15, "end_offset": 20}]},
        {"data": {"text": TEXT}, "annotations": [{"result": [
            {"type": "labels", "value": {"start": 0, "end": 9, "text": "Ann Smith", "labels": ["PER"]}},
            {"type": "labels", "value": {"start": 15, "end": 20, "text": "Paris", "labels": ["LOC"]}},
            {"type": "choices", "value": {"choices": ["fine"]}}]}]},
    ],
    ids=["spans", "doccano", "doccano relations", "Label Studio"],
)  # fmt: skip
def test_spans_of_every_export(values: dict[str, Any]) -> None:
    example = read(values)
    assert example.inputs == {"text": TEXT}
    assert spans_of(example.target) == SPANS


def test_an_annotation_that_was_cancelled_is_left_out() -> None:
    one = {"result": [{"value": {"start": 0, "end": 3, "labels": ["PER"]}}]}
    values = {"data": {"text": TEXT}, "annotations": [{**one, "was_cancelled": True}, {"result": []}]}
    assert spans_of(read(values).target) == []


LABEL_STUDIO = {"data": {"text": TEXT}}


@pytest.mark.parametrize(
    "values",
    [
        {**LABEL_STUDIO, "annotations": []},
        {**LABEL_STUDIO, "annotations": [{"result": [], "was_cancelled": True}]},
        {"text": TEXT, "spans": None},
        {"text": TEXT, "spans": ""},
    ],
)
def test_a_text_that_nobody_annotated_is_not_one_without_entities(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:3: the spans .* are missing"):
        read(values)


@pytest.mark.parametrize(
    "values",
    [
        {**LABEL_STUDIO, "annotations": [{"result": []}]},
        {"text": TEXT, "spans": []},
        {"text": TEXT, "spans": "[]"},
        {"text": TEXT, "annotation_id": 7, "label": None},
    ],
)
def test_an_annotation_without_a_span_says_that_there_is_no_entity(values: dict[str, Any]) -> None:
    assert spans_of(read(values).target) == []


def test_rows_that_nobody_annotated_are_counted_or_left_out(tmp_path: Path) -> None:
    span = {"type": "labels", "from_name": "ner", "value": {"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]}}
    rows = [{"data": {"text": "Ann left."}, "annotations": [{"result": [span]}]} for _ in range(4)]
    rows += [{"data": {"text": "It rained."}, "annotations": [{"result": []}]}]
    rows += [{"data": {"text": "Bob sang."}, "annotations": []} for _ in range(2)]
    (tmp_path / "r.json").write_text(json.dumps(rows), encoding="utf-8")
    how: Any = {"need_labels": True, "columns": {}}
    source = open_source(tmp_path / "r.json", {})
    stream = stream_examples(NamedEntities(), source, "all", **how)
    assert [len(spans_of(example.target)) for example in stream.examples()] == [1, 1, 1, 1, 0]
    with pytest.raises(DataError, match=r"r\.json: 2 of 7 rows cannot be used: r\.json:item 6: the spans"):
        stream.check()
    answered = stream_examples(NamedEntities(), source, "all", columns={}, need_labels=False)
    assert len(list(answered.examples())) == 7, "to be answered, no row needs an annotation"


def test_rows_of_unknown_types_are_left_out(tmp_path: Path) -> None:
    rows = [{"text": "Ann left.", "spans": [[0, 3, kind]]} for kind in ("PER", "ORG", "PER")]
    (tmp_path / "r.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    source = open_source(tmp_path / "r.jsonl", {})
    examples, notes = load_examples(fitted(), source, "all", skip_invalid=True, scratch=tmp_path / "scratch")
    assert len(examples) == 2
    assert "r.jsonl:2: the type 'ORG' is not one of LOC, PER" in notes[0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"text": TEXT, "spans": [[0, 9, "PER"], [4, 14, "LOC"]]}, r"'Ann Smith' and 'Smith left' overlap"),
        ({"text": TEXT, "spans": [[15, 99, "LOC"]]}, r"the span 15 to 99 \(LOC\) lies outside of the text of 21"),
        ({"text": TEXT, "spans": [[-1, 3, "LOC"]]}, r"lies outside"),
        ({"text": TEXT, "spans": [[3, 3, "LOC"]]}, r"lies outside"),
        ({"text": TEXT, "spans": [[1, 9, "PER"]]}, r"the span 'nn Smith' \(PER\) cuts a word"),
        ({"text": TEXT, "spans": [[0, 9]]}, r"\[0, 9\] is no span"),
        ({"text": TEXT, "spans": [{"start": "0", "end": 9, "label": "PER"}]}, r"is no span"),
        ({"text": TEXT, "spans": ["PER"]}, r"PER is no span"),
        ({"text": " ", "spans": []}, r"column 'text' is empty"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, r"1 tags \(column 'tags'\) for 2 words"),
        ({"tokens": ["a"], "tags": "O"}, r"no list of tags"),
        ({"tokens": ["a"], "tags": ["PER"]}, r"'PER' \(column 'tags'\) is no tag"),
        ({"tokens": ["a"], "tags": ["B-"]}, r"'B-' \(column 'tags'\) is no tag"),
        ({"tokens": ["a"], "tags": [3]}, r"3 \(column 'tags'\) is no tag"),
        ({"tokens": "a b", "tags": ["O", "O"]}, r"column 'tokens' holds no list of words"),
        ({"tokens": [], "tags": []}, r"there is no word"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:3: .*" + said):
        read(values)


def test_a_span_that_cuts_a_word_is_left_out_where_that_is_wanted() -> None:
    example = read({"text": TEXT, "spans": [[1, 9, "PER"], [15, 20, "LOC"]]}, fitted(on_misaligned="drop"))
    assert spans_of(example.target) == [SPANS[1]]
    assert json.loads(str(example.target))[2] == 1


def test_a_type_that_training_did_not_have_is_named() -> None:
    target = read({"text": TEXT, "spans": [[0, 9, "ORG"]]}).target
    with pytest.raises(DataError, match="x:1: the type 'ORG' is not one of LOC, PER"):
        fitted().normalize_label(str(target), "x:1")


def test_columns_that_are_not_there_are_named() -> None:
    with pytest.raises(DataError, match="there is no column 'text'"):
        NamedEntities().fields(["sentence", "spans"], {}, "x")
    assert NamedEntities().fields(["words", "ner_tags"], {"tokens": "words"}, "x") == {
        "tokens": "words",
        "tags": "ner_tags",
    }


# Judging.


def drawn(random_: random.Random, words: int) -> list[str]:
    tags, kind = [], ""
    for _ in range(words):
        begins = random_.random()
        if kind and begins < 0.4:
            tags.append(f"I-{kind}")
        elif begins < 0.7:
            kind = random_.choice(["LOC", "PER", "ORG"])
            tags.append(f"B-{kind}")
        else:
            kind = ""
            tags.append("O")
    return tags


def test_figures_are_those_of_seqeval() -> None:
    random_ = random.Random(0)
    task = NamedEntities()
    task.labels = ("LOC", "ORG", "PER")
    examples, predictions, right, given = [], [], [], []
    for number in range(60):
        tokens = [f"w{place}" for place in range(random_.randint(1, 14))]
        tags, others = drawn(random_, len(tokens)), drawn(random_, len(tokens))
        mixed = tags if number % 3 == 0 else others
        example, other = (read({"tokens": tokens, "tags": each}) for each in (tags, mixed))
        text = example.inputs["text"]
        examples.append(example)
        predictions.append(
            Entities(tuple(Entity(*span, text[span.start : span.end]) for span in spans_of(other.target)))
        )
        right.append(tags)
        given.append(mixed)
    found = metric_values(task.own_metrics[:3], task, examples, predictions)
    strict: Any = {"mode": "strict", "scheme": IOB2}
    assert found["entity_f1"] == pytest.approx(f1_score(right, given, **strict))
    assert found["entity_macro_f1"] == pytest.approx(f1_score(right, given, average="macro", **strict))
    assert found["token_accuracy"] == pytest.approx(accuracy_score(right, given))
    by_type = classification_report(right, given, output_dict=True, **strict)
    assert 0 < found["entity_f1"] < 1
    pairs = [
        pair for example, each in zip(examples, predictions, strict=True) for pair in task.decisions(example, each)
    ]
    for kind in task.labels:
        assert sum(pair == (kind, kind) for pair in pairs) == round(by_type[kind]["recall"] * by_type[kind]["support"])


def test_decisions_pair_types_of_the_same_characters() -> None:
    example = read({"text": TEXT, "spans": [[0, 9, "PER"], [15, 20, "LOC"]]})
    given = Entities((Entity(0, 9, "LOC", "Ann Smith"), Entity(10, 14, "PER", "left")))
    assert sorted(map(str, NamedEntities().decisions(example, given))) == sorted(
        map(str, [("PER", "LOC"), ("LOC", None), (None, "PER")])
    )


def test_an_answer_is_shown_in_its_text() -> None:
    entities = (Entity(0, 9, "PER", "Ann Smith", 0.91), Entity(15, 20, "LOC", "Paris", 0.5))
    assert marked(TEXT, entities) == "[Ann Smith|PER] left [Paris|LOC]."
    assert NamedEntities().table_row(TEXT, Entities(entities)) == {"text": "[Ann Smith|PER 91%] left [Paris|LOC 50%]."}
    assert NamedEntities().to_json(Entities(entities[:1])) == {
        "predicted": [{"start": 0, "end": 9, "type": "PER", "text": "Ann Smith", "probability": 0.91}]
    }


# Learning.


@pytest.fixture(scope="module")
def learner() -> Any:
    fixture = TaskFixture(NamedEntities(), installed_plugins())
    made = fixture.new_learner(24)
    made.task = fitted()
    return made


@pytest.mark.parametrize("words", [3, 200])
def test_each_word_has_its_tag_once_on_its_last_token(learner: Any, words: int) -> None:
    text = " ".join(["Paris", "outrageously", "sings"][place % 3] for place in range(words))
    spans = [[place, place + 5, "LOC"] for place in range(len(text)) if text[place : place + 5] == "Paris"]
    example = read({"text": text, "spans": spans})
    (features,) = learner.encode([example])
    assert features.windows == len(features.sequences) == (1 if words == 3 else features.windows)
    ids, labels = [token for window in features.sequences for token in window], features.token_labels
    tokenizer = learner.backbone.tokenizer
    ends = [token for token, label in zip(ids, labels, strict=True) if label != -100]
    assert len(ends) == words
    assert all(text_ends(tokenizer.decode([token])) for token in ends)
    tags = [learner.tags[label] for label in labels if label != -100]
    assert tags == ["B-LOC", "O", "O"] * (words // 3) + ["B-LOC", "O", "O"][: words % 3]
    assert max(map(len, features.sequences)) <= 24


def text_ends(piece: str) -> bool:
    return any(word.endswith(piece.strip()) for word in ("Paris", "outrageously", "sings"))


@pytest.mark.parametrize("words", [3, 200])
def test_what_is_learned_by_heart_is_what_is_decoded(learner: Any, words: int) -> None:
    text = " ".join(["Ann", "Smith", "left"][place % 3] for place in range(words))
    spans = [[place, place + 9, "PER"] for place in range(len(text)) if text[place : place + 9] == "Ann Smith"]
    example = read({"text": text, "spans": spans})
    (features,) = learner.encode([example])
    logits = np.zeros((len(features), learner.outputs), dtype=np.float32)
    for place, label in enumerate(features.token_labels):
        logits[place, label if label != -100 else 2] = 8.0
    (found,) = learner.decode([example], [logits])
    assert [[each.start, each.end, each.type] for each in found.entities] == spans
    assert all(each.text == "Ann Smith" and each.probability > 0.99 for each in found.entities)


def test_the_likeliest_tags_that_can_follow_each_other() -> None:
    tags = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    scores = np.log(np.array([[0.1, 0.1, 0.5, 0.2, 0.1], [0.1, 0.1, 0.1, 0.1, 0.6]]))
    assert [tags[place] for place in best_path(scores, tags)] == ["B-PER", "I-PER"]
    assert best_path(np.zeros((0, 5)), tags) == []


def test_words_that_end_within_one_token_are_one() -> None:
    words, tokens = words_and_tokens("don't go", [(0, 5), (5, 8)])
    assert words == [(0, 5), (6, 8)]
    assert tokens == [0, 1]


def test_words_of_languages_without_spaces() -> None:
    assert [("我在Paris。"[start:end]) for start, end in words_of("我在Paris。")] == ["我", "在", "Paris", "。"]


def test_the_longest_name_of_the_training_data_is_taken() -> None:
    names = {"New York": "LOC", "New York Times": "ORG", "York": "LOC"}
    found = longest_matches("The New York Times is in New York, not York.", names)
    assert [(each.text, each.type) for each in found] == [
        ("New York Times", "ORG"),
        ("New York", "LOC"),
        ("York", "LOC"),
    ]


def test_tags_of_words_that_spans_cover() -> None:
    assert tags_of(words_of(TEXT), SPANS) == ["B-PER", "I-PER", "O", "B-LOC", "O"]


# Asking without training.


def test_entities_that_are_written_as_lines_are_found_in_the_text() -> None:
    task, example = fitted(), read({"text": "Paris met Ann in Paris.", "spans": []})
    found = task.prediction(example, ["LOC: Paris\nPER: Ann\nLOC: Paris\nORG: Ann\nwell, that is all"])
    assert [[each.start, each.end, each.type] for each in found.entities] == [
        [0, 5, "LOC"],
        [10, 13, "PER"],
        [17, 22, "LOC"],
    ]
    assert (found.readable, found.lines) == (3, 5)
    assert task.prediction(example, ["none"]).entities == ()
    shot = task.fewshot_example(read({"text": TEXT, "spans": [list(span) for span in SPANS]}))
    assert shot == f"Text: {TEXT}\nEntities (LOC, PER):\nPER: Ann Smith\nLOC: Paris"
    assert task.fewshot_example(example).endswith("\nnone")


def test_a_model_is_prompted_and_how_much_could_be_read_is_reported(tmp_path: Path) -> None:
    report = gpt_tasks.zero_shot("tiny", "ner", shots=2, data=Path(__file__).parents[2] / SAMPLES).evaluate(
        _written(tmp_path, CONLL * 3)
    )
    assert set(report.metrics) == {"entity_f1", "entity_macro_f1", "token_accuracy", "readable"}


SAMPLES = "plugins/gpt_tasks_plugins/ner/samples"


def _written(folder: Path, text: str) -> Path:
    (folder / "data.conll").write_text(text, encoding="utf-8")
    return folder / "data.conll"


# The whole.


def test_a_run_on_conll_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    odd = CONLL.replace("B-LOC", "I-LOC")
    for split, text in (("train", odd * 6), ("validation", CONLL * 2), ("test", odd)):
        (data / f"{split}.conll").write_text(text.replace("Ann", f"Ann{split}"), encoding="utf-8")
    run = gpt_tasks.finetune("ner", data=data, output=tmp_path / "run", epochs=1, device="cpu", precision="float32")
    assert run.report.labels == ("LOC", "PER")
    assert run.report.baselines["gazetteer"]["entity_f1"].value > 0
    assert run.report.baselines["no_entities"]["entity_f1"].value == 0
    assert len(run.report.confusion_matrix) == 3
    said = capsys.readouterr().err
    assert "6 entities of train begin with I-, and were read as if it were B-." in said
    assert "1 entities of the evaluated data begin with I-" in "".join(run.report.notes)
    answer = run.predict(TEXT)
    assert all(TEXT[each.start : each.end] == each.text for each in answer.entities)
    assert [type(each) for each in run.predict([TEXT, TEXT])] == [Entities] * 2
    loaded = gpt_tasks.load(tmp_path / "run").evaluate(data, split="test")
    assert loaded.metrics["entity_f1"].value == run.report.metrics["entity_f1"].value
    assert command(["predict", str(run.path), TEXT]) == 0
    assert "Ann" in capsys.readouterr().out
    print_report(run.report)
    assert "no entities" in capsys.readouterr().out
    sure = run.predictor.task.confidence(answer)
    assert 0 < sure <= min((each.probability for each in answer.entities), default=1)


def test_wnut17_is_read_whole() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "ner" / "wnut17"
    if not folder.is_dir():
        pytest.skip("the data set is not here")
    lines = (folder / "test.conll").read_text(encoding="utf-8").splitlines()
    rows = list(read_conll(lines, "test.conll"))
    examples = [NamedEntities().example(row, {"tokens": "tokens", "tags": "tags"}) for row in rows]
    assert len(examples) == 1287
    assert sum(len(spans_of(example.target)) for example in examples) == 1079
