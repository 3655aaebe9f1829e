"""`evaluate --task`, `predict --task` and `zero_shot`: a model answers a task zero-shot or after shots."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gpt_tasks
from gpt_tasks.errors import DataError, UsageError

REVIEWS = [("What a splendid soup.", "positive"), ("I regret the walk.", "negative"), ("A lovely evening.", "positive")]
TEXTS = ["What a splendid garden it was.", "I regret the soup already."]
PAIRS = [{"en": f"Dog {n}.", "de": f"Hund {n}.", "kind": "odd" if n % 2 else "even"} for n in range(6)]
ITEMS = [
    {"question": "The sun is", "choices": ["hot", "a cold stone"], "answer": 0},
    {"question": "Snow is", "choices": ["black as coal", "white"], "answer": 1},
]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def reviews_folder(tmp_path: Path) -> Path:
    for split, rows in (("train", REVIEWS * 3), ("test", REVIEWS)):
        jsonl(
            tmp_path / f"{split}.jsonl",
            [{"text": f"{text} {n}", "label": label} for n, (text, label) in enumerate(rows)],
        )
    return tmp_path


@pytest.fixture
def answers(cli: Any, tiny_backbone_folder: Path) -> Callable[..., list[dict[str, Any]]]:
    """Predict with the small backbone, and return what it answers."""

    def predict(*arguments: object) -> list[dict[str, Any]]:
        outcome = cli("predict", tiny_backbone_folder, "--json", *arguments)
        assert outcome.code == 0, outcome.err
        told = json.loads(outcome.out)
        assert told["model"] == str(tiny_backbone_folder)
        predictions: list[dict[str, Any]] = told["predictions"]
        return predictions

    return predict


# Evaluated.


def test_a_task_is_evaluated_without_training(cli: Any, reviews_folder: Path, tiny_backbone_folder: Path) -> None:
    outcome = cli("evaluate", tiny_backbone_folder, "--task", "sentiment", "--data", reviews_folder, "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["n"] == 3
    assert told["model"] == str(tiny_backbone_folder)
    assert set(told["metrics"]) == {"accuracy", "macro_f1", "micro_f1", "mcc", "ece"}
    assert len(told["baselines"]) == 2


def test_shots_and_calibration_change_the_answers(cli: Any, reviews_folder: Path, tiny_backbone_folder: Path) -> None:
    probabilities = []
    for number, flags in enumerate(([], ["--shots", "2"], ["--calibrate"], ["--question", "{text} So it was"])):
        arguments = ["--task", "sentiment", "--data", reviews_folder, "--output", f"report-{number}", *flags]
        outcome = cli("evaluate", tiny_backbone_folder, *arguments)
        assert outcome.code == 0, outcome.err
        lines = lines_of(Path(f"report-{number}/predictions.jsonl").read_text())
        probabilities.append(tuple(line["probabilities"]["positive"] for line in lines))
    assert len(set(probabilities)) == 4


def test_the_report_says_which_model_was_asked_and_how(
    cli: Any, reviews_folder: Path, tiny_backbone_folder: Path
) -> None:
    flags = ["--shots", "2", "--shots-sampler", "similar", "--calibrate", "--label-word", "positive=good"]
    arguments = ["--task", "sentiment", "--data", reviews_folder, "--output", "report", *flags]
    outcome = cli("evaluate", tiny_backbone_folder, *arguments)
    assert outcome.code == 0, outcome.err
    asked = json.loads(Path("report/metrics.json").read_text())["asked"]
    assert asked.pop("fingerprint").startswith("sha256:")
    assert asked == {
        "model": str(tiny_backbone_folder),
        "precision": "float32",
        "shots": 2,
        "shots_sampler": "similar",
        "seed": 1234,
        "shots_from": "train",
        "calibrated": True,
        "chat_template": False,
        "question": None,
        "label_words": {"positive": "good"},
        "options": {},
    }
    told = "shots 2, shots_sampler similar, seed 1234, shots_from train, calibrated True"
    assert told in outcome.out
    assert cli("evaluate", tiny_backbone_folder, *arguments[:5], "plain").code == 0
    compared = cli("compare", "plain", "report")
    assert "A: plain (model " in compared.out
    assert f"B: report (model {tiny_backbone_folder}, precision float32, {told}" in compared.out.replace("\n", "")


def test_calibration_makes_content_free_inputs_even(tiny_backbone_folder: Path, tmp_path: Path, cli: Any) -> None:
    rows = [{"text": "N/A", "label": "positive"}, {"text": "[MASK]", "label": "negative"}]
    data = jsonl(tmp_path / "free.jsonl", rows)
    cli("evaluate", tiny_backbone_folder, "--task", "sentiment", "--data", data, "--calibrate", "--output", "free")
    lines = lines_of(Path("free/predictions.jsonl").read_text())
    assert len(lines) == 2
    for line in lines:
        assert line["probabilities"]["positive"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("task", "rows", "flags", "metrics"),
    [
        ("translation", PAIRS, ["--option", "max_tokens=4"], ["bleu", "chrf"]),
        ("cloze", [{"context": "The soup was", "target": "cold"}], [], ["accuracy", "perplexity"]),
        ("multiple-choice", ITEMS, [], ["accuracy", "acc_norm"]),
        (
            "language-modeling",
            [{"text": "The soup was cold."}],
            [],
            ["word_perplexity", "byte_perplexity", "bits_per_byte"],
        ),
    ],
)
def test_every_kind_of_task_leaves_the_report_of_a_run(
    cli: Any, tiny_backbone_folder: Path, tmp_path: Path, task: str, rows: Any, flags: list[str], metrics: list[str]
) -> None:
    data = jsonl(tmp_path / "rows.jsonl", rows)
    flags = ["--task", task, "--data", str(data), *flags, "--output", "out"]
    outcome = cli("evaluate", tiny_backbone_folder, *flags, "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told.pop("model") == str(tiny_backbone_folder)
    assert json.loads(Path("out/metrics.json").read_text()) == told
    assert (told["task"], told["n"]) == (task, len(rows))
    assert [name for name in told["metrics"] if name in metrics] == metrics
    lines = lines_of(Path("out/predictions.jsonl").read_text())
    assert [line["where"] for line in lines] == [f"rows.jsonl:{n}" for n in range(1, len(rows) + 1)]
    assert not Path("out/scores.json").exists()
    again = cli("evaluate", tiny_backbone_folder, *flags)
    assert again.code == 2
    assert "out is not empty" in again.err


def test_what_is_shown_without_json_is_the_table_of_a_report(
    cli: Any, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    data = jsonl(tmp_path / "items.jsonl", ITEMS)
    outcome = cli("evaluate", tiny_backbone_folder, "--task", "multiple-choice", "--data", data)
    assert outcome.code == 0, outcome.err
    assert "multiple-choice: all, 2 examples" in outcome.out
    assert "acc_norm" in outcome.out
    assert "longest choice" in outcome.out
    assert "There is no train split: no baselines are fitted.\n" in outcome.out


def test_the_values_of_a_column_are_evaluated_separately(cli: Any, tiny_backbone_folder: Path, tmp_path: Path) -> None:
    data = jsonl(tmp_path / "pairs.jsonl", PAIRS)
    flags = ["--task", "translation", "--data", data, "--option", "max_tokens=4", "--by", "kind", "--json"]
    outcome = cli("evaluate", tiny_backbone_folder, *flags)
    assert outcome.code == 0, outcome.err
    slices = json.loads(outcome.out)["slices"]
    assert slices["by"] == "kind"
    assert {value: scores["chrf"]["n"] for value, scores in slices["values"].items()} == {"even": 3, "odd": 3}


# Asked about texts and files.


def test_texts_get_labels_with_the_probability_of_every_one(cli: Any, answers: Any, tiny_backbone_folder: Path) -> None:
    predictions = answers("--task", "sentiment", *TEXTS)
    assert [prediction["text"] for prediction in predictions] == TEXTS
    for prediction in predictions:
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert prediction["predicted"] == max(prediction["probabilities"], key=prediction["probabilities"].get)
    shown = cli("predict", tiny_backbone_folder, "--task", "sentiment", *TEXTS)
    assert shown.code == 0, shown.err
    head, *lines = shown.out.splitlines()
    assert head.split() == ["label", "probability", "text"]
    for prediction, line in zip(predictions, lines, strict=True):
        label = prediction["predicted"]
        assert line.split(maxsplit=2)[:2] == [label, f"{prediction['probabilities'][label]:.1%}"]
        assert prediction["text"] in line


def test_texts_are_answered_after_shots_from_labelled_data(answers: Any, reviews_folder: Path) -> None:
    zero = answers("--task", "sentiment", *TEXTS)
    shots = ["--task", "sentiment", "--shots", 2, "--data", reviews_folder]
    two = answers(*shots, *TEXTS)
    assert two != zero
    assert answers(*shots, *TEXTS) == two
    assert answers(*shots, "--seed", 7, *TEXTS) != two
    fixed = answers(*shots, "--shots-sampler", "fixed", TEXTS[0], TEXTS[0])
    assert fixed[0] == fixed[1]


def test_shots_are_drawn_from_rows_that_can_be_used(cli: Any, answers: Any, tmp_path: Path, capsys: Any) -> None:
    bad = ["{", {"text": "", "label": "positive"}, {"text": "Odd.", "label": "neither"}]
    rows = [{"text": text, "label": label} for text, label in REVIEWS * 2]
    good = jsonl(tmp_path / "good.jsonl", rows)
    file = tmp_path / "r.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in [*rows, *bad]))
    shots = ["--task", "sentiment", "--shots", 2]
    refused = cli("predict", "any", *shots, "--data", file, TEXTS[0])
    assert refused.code == 4
    assert "r.jsonl: 3 of 9 rows cannot be used: r.jsonl:7: this is not JSON" in refused.err
    assert "r.jsonl:9: label 'neither' is not one of negative, positive" in refused.err
    assert answers(*shots, "--data", file, "--skip-invalid", *TEXTS) == answers(*shots, "--data", good, *TEXTS)
    outcome = cli("predict", "any", *shots, "--data", file, "--skip-invalid", TEXTS[0])
    assert "Left out 3 of 9 rows of r.jsonl, which cannot be used: r.jsonl:7: " in outcome.err


def test_labelled_data_are_read_in_the_encoding_that_is_named(cli: Any, answers: Any, tmp_path: Path) -> None:
    texts = [f"ça alors {n},{'positive' if n % 2 else 'negative'}" for n in range(6)]
    for encoding in ("utf-8", "mac_roman"):
        (tmp_path / f"{encoding}.csv").write_bytes("\n".join(["text,label", *texts]).encode(encoding))
    shots = ["--task", "sentiment", "--shots", 2, TEXTS[0], "--data"]
    named = answers(*shots, tmp_path / "mac_roman.csv", "--encoding", "mac_roman")
    assert named == answers(*shots, tmp_path / "utf-8.csv")
    for source in ("sqlite:r.db", "hf:nobody/nothing"):
        outcome = cli("predict", "any", *shots, source, "--encoding", "mac_roman")
        assert outcome.code == 2
        assert f"--encoding mac_roman has no effect: {source} is no text file" in outcome.err


def test_rows_of_unknown_labels_are_left_out_of_an_evaluation(
    cli: Any, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"{text} {n}", "label": label} for n, (text, label) in enumerate(REVIEWS * 2)]
    file = jsonl(tmp_path / "r.jsonl", [*rows, *({"text": f"Odd {n}.", "label": "neither"} for n in range(6))])
    command = ["evaluate", tiny_backbone_folder, "--task", "sentiment", "--data", file, "--shots", 1]
    refused = cli(*command)
    assert refused.code == 4
    assert "r.jsonl: 6 of 12 rows cannot be used: r.jsonl:7: label 'neither' is not one of" in refused.err
    left_out = cli(*command, "--skip-invalid", "--json")
    assert left_out.code == 0, left_out.err
    report = json.loads(left_out.out)
    assert report["n"] == 6
    assert any(note.startswith("Left out 6 of 12 rows of r.jsonl") for note in report["notes"])


def test_labels_come_from_labelled_data_or_an_option(answers: Any, reviews_folder: Path) -> None:
    (of_data,) = answers("--task", "classification", "--data", reviews_folder, TEXTS[0])
    assert set(of_data["probabilities"]) == {"positive", "negative"}
    (of_options,) = answers("--task", "classification", "--option", "labels=glad", "--option", "labels=sad", TEXTS[0])
    assert list(of_options["probabilities"]) == ["glad", "sad"]


def test_a_question_and_words_for_labels_change_the_answers(answers: Any) -> None:
    as_it_is = answers("--task", "sentiment", *TEXTS)
    question = answers("--task", "sentiment", "--question", "{text} So it was", *TEXTS)
    word = answers("--task", "sentiment", "--label-word", "positive=good", *TEXTS)
    calibrated = answers("--task", "sentiment", "--calibrate", *TEXTS)
    every = [as_it_is, question, word, calibrated]
    assert len({prediction[0]["probabilities"]["positive"] for prediction in every}) == 4


def test_columns_of_labelled_data_are_named(answers: Any, tmp_path: Path) -> None:
    data = jsonl(tmp_path / "stars.jsonl", [{"review": text, "stars": label} for text, label in REVIEWS])
    columns = ["--column", "text=review", "--column", "label=stars"]
    (answer,) = answers("--task", "sentiment", "--shots", 1, "--data", data, *columns, TEXTS[0])
    assert answer["text"] == TEXTS[0]


def test_a_task_that_writes_answers_in_the_models_own_words(cli: Any, answers: Any, tiny_backbone_folder: Path) -> None:
    flags = ["--task", "text-to-text", "--option", "max_tokens=4"]
    (answer,) = answers(*flags, "Who is it?")
    assert answer["question"] == "Who is it?"
    assert set(answer) == {"question", "predicted"}
    assert isinstance(answer["predicted"], str)
    shown = cli("predict", tiny_backbone_folder, *flags, "Who is it?")
    assert shown.code == 0, shown.err
    head, line = shown.out.splitlines()
    assert head.split() == ["answer", "text"]
    assert line.rstrip().endswith("Who is it?")


def test_labels_that_look_alike_are_told_or_are_one(cli: Any, tiny_backbone_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"text {place}", "label": label} for place, label in enumerate(["Sport", "art", "sport"] * 2)]
    data = jsonl(tmp_path / "rows.jsonl", [*rows, {"text": "another", "label": "Sport"}])
    ask = ("evaluate", tiny_backbone_folder, "--task", "classification", "--data", data, "--json")
    told = json.loads(cli(*ask).out)
    assert told["labels"] == ["Sport", "art", "sport"]
    assert any(note.startswith("The labels 'Sport' and 'sport' differ only") for note in told["notes"])
    told = json.loads(cli(*ask, "--option", "normalize_labels=true").out)
    assert told["labels"] == ["Sport", "art"]
    assert "Labels read as another (--normalize-labels): 'sport' as 'Sport'." in told["notes"]


def test_a_file_stdin_and_texts_get_the_same_answers(
    cli: Any, answers: Any, tiny_backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jsonl(tmp_path / "texts.jsonl", [{"review": text} for text in TEXTS])
    ask = ("predict", tiny_backbone_folder, "--task", "sentiment")
    to_stdout = cli(*ask, "--input", data, "--column", "text=review")
    assert to_stdout.code == 0, to_stdout.err
    to_file = cli(*ask, "--input", data, "--column", "text=review", "--output", "answers.jsonl")
    assert (to_file.code, to_file.out) == (0, "")
    written = [
        {"review": each["text"], "prediction": each["predicted"], "confidence": max(each["probabilities"].values())}
        for each in lines_of(to_stdout.out)
    ]
    assert lines_of(Path("answers.jsonl").read_text()) == written
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS) + "\n"))
    from_stdin = cli(*ask, "--input", "-")
    assert from_stdin.code == 0, from_stdin.err
    assert lines_of(to_stdout.out) == lines_of(from_stdin.out) == answers("--task", "sentiment", *TEXTS)


def test_rows_of_several_fields_are_answered_from_a_file(cli: Any, tiny_backbone_folder: Path, tmp_path: Path) -> None:
    row = {"context": "The soup was cold.", "question": "How was the soup?"}
    data = jsonl(tmp_path / "questions.jsonl", [row])
    ask = ("predict", tiny_backbone_folder, "--task", "qa")
    outcome = cli(*ask, "--input", data)
    assert outcome.code == 0, outcome.err
    (answer,) = lines_of(outcome.out)
    assert {name: answer[name] for name in row} == row
    assert "predicted" in answer
    alone = cli(*ask, "How was the soup?")
    assert alone.code == 4
    assert "text 1: task 'qa' reads context, question, not one text" in alone.err


# Refused.

LEFT_OUT = [
    (["--shots", "2"], "--shots is for --task"),
    (["--shots-sampler", "fixed"], "--shots-sampler is for --task"),
    (["--seed", "7"], "--seed is for --task"),
    (["--calibrate"], "--calibrate is for --task"),
    (["--chat-template"], "--chat-template is for --task"),
    (["--question", "{text}"], "--question is for --task"),
    (["--label-word", "positive=good"], "--label-word is for --task"),
]
OF_BOTH = [
    (["--task", "sentimant"], "Did you mean 'sentiment'?"),
    (["--task", "sentiment", "--label-word", "positive"], "Write --label-word LABEL=WORD, as in positive=good"),
    (["--task", "sentiment", "--option", "prompt={text} {label}"], "names 'label', which is the answer"),
    (["--task", "sentiment", "--label-word", "neutral=so"], "is for a label 'neutral', which does not exist"),
    (["--task", "sentiment", "--label-word", "positive=negative"], "Two labels have the same word 'negative'"),
    (["--task", "sentiment", "--question", "{review}"], "--question '{review}' names 'review'"),
    (["--task", "sentiment", "--question", "{text"], "--question '{text' cannot be read"),
    (["--task", "sentiment", "--option", "prompt=x"], "--option prompt: 'x': a prompt names the fields it reads"),
    (["--task", "sentiment", "--decoding", "num_beams=2"], "--decoding is for a run"),
    (["--task", "multiple-choice", "--calibrate"], "compares no labels"),
    (["--task", "multiple-choice", "--question", "{question}"], "compares no labels: a question and words for labels"),
    (["--task", "language-modeling", "--shots", "2"], "takes no few-shot examples"),
    (["--task", "similarity"], "Task 'similarity' cannot be evaluated zero-shot"),
    (["--task", "multi-label"], "Task 'multi-label' cannot be evaluated zero-shot"),
    (["--task", "translation", "--option", "target_language=xx"], "there is no language 'xx'"),
    (["--task", "translation", "--option", "target_language"], "names no pair"),
    (
        ["--task", "translation", "--option", "target_language=de", "--option", "target_language=zh"],
        "--option target_language is given twice: 'de' and 'zh'",
    ),
    (["--task", "summarization", "--option", "prompt={document"], "--option prompt: '{document'"),
    (["--task", "summarization", "--option", "answr=x"], "answr"),
]


@pytest.mark.parametrize(("flags", "told"), [*LEFT_OUT, *OF_BOTH], ids=lambda value: " ".join(value)[:60])
@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_what_cannot_be_evaluated_zero_shot_is_reported(
    cli: Any, reviews_folder: Path, tiny_backbone_folder: Path, command: str, flags: list[str], told: str
) -> None:
    asked = ["--data", reviews_folder] if command == "evaluate" else [TEXTS[0]]
    outcome = cli(command, tiny_backbone_folder, *asked, *flags)
    assert outcome.code == 2, outcome.err
    assert told in outcome.err
    assert len(outcome.err.strip().splitlines()) == 2
    if (flags, told) in LEFT_OUT:
        assert "Give --task TASK too" in outcome.err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--data", "rows.jsonl"], "--data is for --task"),
        (["--task", "sentiment", "--shots", "2"], "--shots 2: there is nothing to draw from"),
        (["--task", "sentiment", "--column", "text=review"], "--column belongs to --input"),
        (["--task", "sentiment", "--input", "rows.jsonl"], "and not both"),
        (["--task", "classification"], "Task 'classification' declares no labels to choose from"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_no_text_can_be_answered_by_is_reported(
    cli: Any, tiny_backbone_folder: Path, flags: list[str], told: str
) -> None:
    outcome = cli("predict", tiny_backbone_folder, TEXTS[0], *flags)
    assert outcome.code == 2, outcome.err
    assert told in outcome.err
    assert outcome.out == ""


def test_too_few_rows_to_draw_shots_from_are_reported(
    cli: Any, tiny_backbone_folder: Path, reviews_folder: Path
) -> None:
    ask = ("predict", tiny_backbone_folder, "--task", "sentiment", "--shots", 10, "--data", reviews_folder)
    outcome = cli(*ask, TEXTS[0])
    assert outcome.code == 4
    assert "9 examples are too few to draw 10 shots from" in outcome.err


# From Python.


def test_one_text_gets_one_answer_and_a_list_a_list(tiny_backbone_folder: Path) -> None:
    model = gpt_tasks.zero_shot(str(tiny_backbone_folder), "sentiment", device="cpu")
    one = model.predict(TEXTS[0])
    assert isinstance(one, gpt_tasks.Prediction)
    assert set(one.probabilities) == {"positive", "negative"}
    first, second = model.predict(TEXTS)
    assert first.probabilities == pytest.approx(one.probabilities, abs=1e-5)
    assert model.predict({"text": TEXTS[1]}).probabilities == pytest.approx(second.probabilities, abs=1e-5)
    assert model.predict([]) == []
    with pytest.raises(DataError, match="text 2"):
        model.predict([TEXTS[0], " "])
    assert repr(model) == f"ZeroShotModel({str(tiny_backbone_folder)!r}, task='sentiment')"


def test_a_task_that_writes_answers_with_a_text(tiny_backbone_folder: Path) -> None:
    model = gpt_tasks.zero_shot(str(tiny_backbone_folder), "text-to-text", options={"max_tokens": 4}, device="cpu")
    one = model.predict("Who is it?")
    assert isinstance(one, str)
    assert model.predict(["Who is it?"]) == [one]


def test_a_custom_task_is_evaluated_zero_shot(tiny_backbone_folder: Path) -> None:
    class Mood(gpt_tasks.ClassificationTask):
        """Tell calm from wild."""

        name = "mood"
        labels = ("calm", "wild")

    model = gpt_tasks.zero_shot(str(tiny_backbone_folder), Mood(), device="cpu")
    assert set(model.predict("The sea.").probabilities) == {"calm", "wild"}


def test_rows_are_answered_one_after_another(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    model = gpt_tasks.zero_shot(str(tiny_backbone_folder), "sentiment", device="cpu")
    data = jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])
    rows = list(model.predict_rows(data))
    assert [example.where for example, _ in rows] == ["texts.jsonl:1", "texts.jsonl:2"]
    assert [prediction for _, prediction in rows] == model.predict(TEXTS)


def test_every_call_draws_its_shots_from_the_beginning(tiny_backbone_folder: Path, reviews_folder: Path) -> None:
    model = gpt_tasks.zero_shot(
        str(tiny_backbone_folder), "sentiment", shots=2, data=reviews_folder / "train.jsonl", device="cpu"
    )
    assert model.predict(TEXTS) == model.predict(TEXTS)


def test_a_report_is_that_of_the_command_line(cli: Any, tiny_backbone_folder: Path, reviews_folder: Path) -> None:
    model = gpt_tasks.zero_shot(str(tiny_backbone_folder), "sentiment", shots=2, device="cpu")
    report = model.evaluate(reviews_folder, output="ours")
    flags = ["--task", "sentiment", "--shots", "2", "--data", reviews_folder, "--device", "cpu", "--json"]
    told = json.loads(cli("evaluate", tiny_backbone_folder, *flags).out)
    del told["model"]
    assert report.to_json() == told == json.loads(Path("ours/metrics.json").read_text())


def test_shots_and_baselines_of_an_evaluation_come_from_the_data_that_is_named(
    cli: Any, tiny_backbone_folder: Path, reviews_folder: Path
) -> None:
    test = reviews_folder / "test.jsonl"
    named = gpt_tasks.zero_shot(
        str(tiny_backbone_folder), "sentiment", shots=2, data=reviews_folder / "train.jsonl", device="cpu"
    )
    both = gpt_tasks.zero_shot(str(tiny_backbone_folder), "sentiment", shots=2, device="cpu")
    named.evaluate(test, output="named")
    both.evaluate(reviews_folder, output="both")
    both.evaluate(test, output="alone")
    lines = {
        name: [line["probabilities"] for line in lines_of(Path(name, "predictions.jsonl").read_text())]
        for name in ("named", "both", "alone")
    }
    assert lines["named"] == lines["both"] != lines["alone"]
    baselines = {name: json.loads(Path(name, "metrics.json").read_text())["baselines"] for name in lines}
    assert baselines["named"] == baselines["both"] != {}
    assert baselines["alone"] == {}


@pytest.mark.parametrize(
    ("task", "settings", "told"),
    [
        ("similarity", {}, "cannot be evaluated zero-shot"),
        ("multiple-choice", {"calibrated": True}, "compares no labels that could be calibrated"),
        ("language-modeling", {"shots": 1}, "takes no few-shot examples"),
        ("multiple-choice", {"label_words": {"A": "a"}}, "compares no labels"),
    ],
)
def test_what_cannot_be_evaluated_zero_shot_is_reported_before_the_model_is_loaded(
    task: str, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        gpt_tasks.zero_shot("no/such/model", task, **settings)


def test_an_option_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="--option answr: 'x': extra inputs"):
        gpt_tasks.zero_shot("tiny", "summarization", options={"answr": "x"})


def test_an_evaluation_that_was_stopped_continues_from_what_was_answered(
    reviews_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt_tasks.evaluation import evaluate as room

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "out"
    model = gpt_tasks.zero_shot("tiny", "sentiment", device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(room, "write_statistics", stopped)
        with pytest.raises(KeyboardInterrupt):
            model.evaluate(reviews_folder, output=output)
    answered = (output / "answers.jsonl").read_text()
    assert len(answered.splitlines()) == 1 + 2 * len(REVIEWS)
    report = model.evaluate(reviews_folder, output=output)
    assert (output / "answers.jsonl").read_text() == answered, "nothing was prompted again"
    assert report.values() == model.evaluate(reviews_folder).values()
    with pytest.raises(UsageError, match="is not empty"):
        model.evaluate(reviews_folder, output=output)
