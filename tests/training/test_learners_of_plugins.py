"""Learners of plugins: their errors are reported as theirs, and what they may do works."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

import gpt_tasks
from gpt_tasks.cli.main import run as command
from gpt_tasks.errors import MachineError, ModelError, PluginError
from gpt_tasks.plugins import installed_plugins

SPLITS = ("train", "validation", "test")
TRAIN_ROWS = 20

TASK = """
    from gpt_tasks import ClassificationTask, hookimpl

    class Mood(ClassificationTask):
        "Tell calm from wild."
        name = "mood"
        learner = "taught"
        head = "noting"

    @hookimpl
    def register_tasks():
        return [Mood()]
    """

# A learner as it should be, and a head, which note what they get while they learn.
LEARNER = """
    import numpy as np
    import torch
    from gpt_tasks import Features, HeadSpec, Learner, LearnerSpec, Prediction, hookimpl
    from torch import nn
    from torch.nn import functional

    noted = []

    class Taught(Learner):
        @property
        def outputs(self):
            return len(self.task.labels)

        def label(self, example):
            return None if example.target is None else np.int64(self.task.labels.index(example.target))

        def encode(self, examples):
            encoded = self.task.encode(examples, self.backbone.tokenizer, self.settings.max_length)
            return [
                Features(each.sequences, labels=self.label(example))
                for example, each in zip(examples, encoded, strict=True)
            ]

        def loss(self, logits, labels):
            if logits.requires_grad:
                noted.append(len(labels))
            return functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")

        def decode(self, examples, outputs):
            return self.task.predictions(np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True))

    class Noting(nn.Module):
        most = 1000

        def __init__(self, hidden, outputs):
            super().__init__()
            self.linear = nn.Linear(hidden, outputs)

        def forward(self, hidden, attention_mask):
            if self.training and len(hidden) > self.most:
                raise torch.OutOfMemoryError(f"not enough memory for more than {self.most}")
            return self.linear((hidden * attention_mask[..., None]).sum(1))

    @hookimpl
    def register_learners():
        return [LearnerSpec("taught", "As it should be.", lambda: Taught)]

    @hookimpl
    def register_heads():
        return [HeadSpec("noting", "Linear on the sum of the hidden states.", Noting)]
    """

Finetune = Callable[..., Any]


@pytest.fixture
def finetune(site: Any, tiny_backbone_folder: Path, tmp_path: Path) -> Finetune:
    """Fine-tune to the task of one plugin by the learner of another, in which something is `changed`."""
    data = tmp_path / "data"
    data.mkdir()
    for split in SPLITS:
        rows = [
            {"text": f"{split} number {n} is {('calm', 'wild')[n % 2] * (1 + n % 3)}", "label": ("calm", "wild")[n % 2]}
            for n in range(TRAIN_ROWS if split == "train" else 6)
        ]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def tune(changed: dict[str, str], **settings: Any) -> Any:
        source = LEARNER
        for old, new in changed.items():
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        site.install("mood", TASK)
        site.install("school", source, distribution="teachers", version="0.3")
        installed_plugins.cache_clear()
        common = {"epochs": 1, "learning_rate": 0.01, "precision": "float32", "device": "cpu"}
        return gpt_tasks.finetune(
            "mood",
            data=str(data),
            backbone=str(tiny_backbone_folder),
            output=tmp_path / "run",
            **{**common, **settings},
        )

    return tune


def noted() -> list[int]:
    """The sizes of the batches whose loss was computed to learn by."""
    found: list[int] = sys.modules["teachers_school"].noted
    return found


def history(run: Any) -> list[dict[str, float]]:
    entries: list[dict[str, float]] = json.loads((run.path / "logs" / "history.json").read_text())
    return entries


def test_a_learner_as_it_should_be_is_trained_and_answers(finetune: Finetune) -> None:
    run = finetune({}, epochs=20, options={"prompt": "{text}"})
    assert run.report.metrics["accuracy"].value == 1
    assert run.predict("this is wild").label == "wild"


OTHER_LABELS = "labels=self.label(example))"
LOSS = 'return functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")'


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {'reduction="sum"': 'reduction="none"'},
            r"Learner 'taught' \(school of teachers 0\.3\): the loss is of shape \[\d+\], and must be one number",
        ),
        (
            {'reduction="sum")': 'reduction="sum") * float("nan")'},
            r"Learner 'taught' \(school of teachers 0\.3\): the loss is nan in update 1",
        ),
        (
            {OTHER_LABELS: "token_labels=[1, -100])"},
            r"Learner 'taught' \(school of teachers 0\.3\): encode\(\) returned 2 labels for \d+ tokens",
        ),
        (
            {OTHER_LABELS: "labels=np.zeros(1 + len(example.inputs['text']) % 2))"},
            r"Learner 'taught' \(school of teachers 0\.3\): encode\(\) returned labels of shape \(\d,\), but",
        ),
        (
            {OTHER_LABELS: ")"},
            r"Learner 'taught' \(school of teachers 0\.3\): encode\(\) returned features without labels",
        ),
        # Raised by torch for what the plugin's own code asks of it.
        ({LOSS: "return logits @ labels.float()"}, r"Plugin 'school' \(teachers 0\.3\) failed: RuntimeError: size mis"),
        # Raised by torch for what the plugin returned, where none of its code is at work any more.
        ({LOSS: "return logits.sum().detach()"}, r"What plugin 'school' \(teachers 0\.3\) computes .*: RuntimeError: "),
        ({LOSS: "return 0.5"}, r"What plugin 'school' \(teachers 0\.3\) computes cannot be used: \w+Error: "),
    ],
    ids=[
        "loss of each example",
        "NaN",
        "labels of other tokens",
        "labels of several shapes",
        "no labels",
        "wrong shapes",
        "no gradient",
        "no tensor",
    ],
)
def test_errors_of_a_learner_are_reported_as_its_plugins_and_nothing_is_left(
    finetune: Finetune, tmp_path: Path, changed: dict[str, str], told: str
) -> None:
    with pytest.raises(PluginError, match=told) as raised:
        finetune(changed)
    assert raised.value.exit_code == 3
    assert "\n" not in raised.value.message
    assert not (tmp_path / "run").exists()


def test_the_command_ends_with_the_exit_code_of_plugins(
    finetune: Finetune, tiny_backbone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {'reduction="sum"': 'reduction="none"'}
    with pytest.raises(PluginError):
        finetune(changed)
    flags = ["--data", str(tmp_path / "data"), "--backbone", str(tiny_backbone_folder), "--output"]
    assert command(["finetune", "mood", *flags, str(tmp_path / "run"), "--device", "cpu"]) == 3
    assert "Learner 'taught' (school of teachers 0.3): the loss is of shape" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# The inherited methods of the built-in learner fail within torch for labels of another shape.
INHERITED = """
    import numpy as np
    from gpt_tasks import HeadSpec, LearnerSpec, hookimpl
    from gpt_tasks.heads.sequence import SequenceHead
    from gpt_tasks.learners.labels import ClassificationLearner

    class Taught(ClassificationLearner):
        def label(self, target):
            return np.zeros(3, dtype=np.int64)

    @hookimpl
    def register_learners():
        return [LearnerSpec("taught", "Labels of a wrong shape.", lambda: Taught)]

    @hookimpl
    def register_heads():
        return [HeadSpec("noting", "The last token's.", SequenceHead)]
    """


def test_wrong_shapes_in_a_loss_that_is_inherited_are_the_plugins_too(finetune: Finetune, tmp_path: Path) -> None:
    told = r"What plugin 'school' \(teachers 0\.3\) computes cannot be used: RuntimeError: "
    with pytest.raises(PluginError, match=told) as raised:
        finetune({LEARNER: INHERITED})
    assert raised.value.exit_code == 3
    assert not (tmp_path / "run").exists()


def test_a_loss_of_nan_of_a_built_in_learner_is_reported_with_a_way_out(
    tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = tmp_path / "backbone" / "model.safetensors"
    shutil.copytree(tiny_backbone_folder, weights.parent)
    tensors = load_file(weights)
    tensors["transformer.ln_f.weight"] *= 3e38
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(ModelError, match="The loss is nan in update 1") as raised:
        gpt_tasks.finetune("sentiment", backbone=str(weights.parent), output=tmp_path / "run", device="cpu", limit=60)
    assert "Lower --learning-rate" in raised.value.hint
    assert not (tmp_path / "run").exists()


def test_a_task_whose_learner_is_not_there_is_reported_at_once(site: Any, tmp_path: Path) -> None:
    site.install("mood", TASK)
    installed_plugins.cache_clear()
    told = r"Task 'mood' of plugin 'mood' \(acme 1\.2\) names a learner 'taught', which does not exist"
    with pytest.raises(PluginError, match=told) as raised:
        gpt_tasks.finetune("mood", backbone="no/such-model", output=tmp_path / "run")
    assert raised.value.exit_code == 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("examples", "sizes"), [(4, [4] * 5), (6, [5] * 4), (100, [20])])
def test_batches_hold_as_many_examples_as_a_learner_says(finetune: Finetune, examples: int, sizes: list[int]) -> None:
    finetune({"class Taught(Learner):": f"class Taught(Learner):\n        batch_examples = {examples}"}, batch_tokens=8)
    assert noted() == sizes


def test_the_loss_of_training_and_of_validation_gets_the_values_of_the_examples(finetune: Finetune) -> None:
    run = finetune(
        {
            OTHER_LABELS: "labels=self.label(example), values=(0.0, len(example.inputs['text'])))",
            "def loss(self, logits, labels):": "def loss(self, logits, labels, values):",
            LOSS: 'return (functional.cross_entropy(logits, labels, reduction="none") * values[:, 1]).sum()',
        }
    )
    (loss,) = (entry["eval_loss"] for entry in history(run) if "eval_loss" in entry)
    data = Path(run.record["config"]["data"]) / "validation.jsonl"
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    answers = gpt_tasks.load(run.path, precision="float32", device="cpu").predict([row["text"] for row in rows])
    likelihoods = [answer.probabilities[row["label"]] for answer, row in zip(answers, rows, strict=True)]
    weights = [len(row["text"]) for row in rows]
    assert loss == pytest.approx(-np.mean(np.log(likelihoods) * weights), rel=1e-4)


@pytest.mark.parametrize("is_divisible", [True, False])
def test_batches_of_a_learner_that_is_not_divisible_are_never_halved(
    finetune: Finetune, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_divisible: bool
) -> None:
    changed = {
        "class Taught(Learner):": f"class Taught(Learner):\n        batch_examples = 4; is_divisible = {is_divisible}",
        "most = 1000": "most = 2",
    }
    if is_divisible:
        finetune(changed)
        assert noted() == [2] * 10
        assert "Out of memory: continuing with half" in capsys.readouterr().err
        return
    with pytest.raises(MachineError, match=r"cpu: out of memory with a batch of \d+ tokens") as raised:
        finetune(changed)
    assert raised.value.exit_code == 6
    assert noted() == []
    assert "continuing with half" not in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


WINDOW = 4
MARKS = """
    import numpy as np
    from gpt_tasks import (
        Example, Features, HeadSpec, Learner, LearnerSpec, Metric, Task, hookimpl, require_columns, text_of
    )
    from torch import nn
    from torch.nn import functional

    class Marks(Task):
        "Mark the characters of the tokens that hold an o."
        name = "marks"
        columns = {"text": "text", "marks": "marks"}
        prompt = "{text}"
        own_metrics = (Metric("marked", "Share of texts whose marks are right.", range=(0.0, 1.0),
                              statistic=lambda answer, references: float(answer in references)),)
        metrics = ("marked",)
        learner = "marking"
        head = "each-token"

        def fields(self, available, mapping, where):
            chosen = {**self.columns, **mapping}
            require_columns(chosen, available, where)
            return chosen

        def input_fields(self, available, mapping, where):
            return {"text": mapping.get("text", "text")}

        def example(self, row, columns, extra=()):
            target = row.values[columns["marks"]] if "marks" in columns else None
            return Example({"text": text_of(row, columns["text"])}, target, row.where)

    class Marking(Learner):
        per_token = True
        outputs = 2

        def tokenized(self, example):
            found = self.backbone.tokenizer(example.inputs["text"], return_offsets_mapping=True)
            return found["input_ids"], found["offset_mapping"]

        def encode(self, examples):
            return [self.features(example) for example in examples]

        def features(self, example):
            "Windows; the first token of a text, which any marks are right for, is not learned."
            ids, offsets = self.tokenized(example)
            labels = [int("1" in (example.target or "")[start:end]) for start, end in offsets]
            windows = [ids[start : start + 4] for start in range(0, len(ids), 4)]
            return Features(windows, token_labels=[-100, *labels[1:]], windows=len(windows))

        def loss(self, logits, labels):
            return functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=-100, reduction="sum")

        def decode(self, examples, outputs):
            found = []
            for example, logits in zip(examples, outputs, strict=True):
                offsets = self.tokenized(example)[1]
                marks = ["0"] * len(example.inputs["text"])
                for (start, end), token in zip(offsets[1:], logits[1:].argmax(axis=1), strict=True):
                    marks[start:end] = str(token) * (end - start)
                found.append("".join(marks))
            return found

    class EachToken(nn.Linear):
        def forward(self, hidden, attention_mask):
            return super().forward(hidden)

    @hookimpl
    def register_tasks():
        return [Marks()]

    @hookimpl
    def register_learners():
        return [LearnerSpec("marking", "A label for each token.", lambda: Marking)]

    @hookimpl
    def register_heads():
        return [HeadSpec("each-token", "Logits for each token.", EachToken)]
    """


def test_a_learner_of_tokens_is_trained_end_to_end(
    site: Any, tiny_backbone_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    site.install("marks", MARKS)
    installed_plugins.cache_clear()
    texts = ["The soup was cold.", "A good film", "Nobody", "It is lovely, so we go home to look at the photo", "Rain"]

    def marks_of(text: str) -> str:
        offsets = tiny_tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return "".join(
            ("1" if place and "o" in text[start:end] else "0") * (end - start)
            for place, (start, end) in enumerate(offsets)
        )

    (tmp_path / "data").mkdir()
    for split, mark in zip(SPLITS, ("", "?", "!"), strict=True):
        rows = [{"text": text + mark, "marks": marks_of(text + mark)} for text in texts]
        (tmp_path / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = gpt_tasks.finetune(
        "marks",
        data=str(tmp_path / "data"),
        backbone=str(tiny_backbone_folder),
        output=tmp_path / "run",
        epochs=40,
        learning_rate=0.02,
        batch_tokens=32,
        precision="float32",
        device="cpu",
    )
    counts = [len(tiny_tokenizer(text)["input_ids"]) for text in texts]
    assert run.report.training["windowed_examples"] == sum(count > WINDOW for count in counts) > 0
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    assert [line["references"] for line in lines] == [[marks_of(text + "!")] for text in texts]
    found = [line["predicted"] in line["references"] for line in lines]
    assert run.report.metrics["marked"].value == np.mean(found) > 0
    right = [marks_of(text) for text in texts]
    assert any("1" in marks for marks in right)
    again = gpt_tasks.load(run.path, precision="float32", device="cpu")
    assert again.predict(texts) == right
    assert [again.predict(text) for text in texts] == right

    # The best checkpoint is that of the least loss by label, of the tokens that have one.
    learner = again.predictor
    examples = [example for example, _ in again.predict_rows(tmp_path / "data", split="validation")]
    losses = []
    for example, logits in zip(examples, learner.outputs_of(learner.encode(examples)), strict=True):
        assert len(logits) == len(tiny_tokenizer(example.inputs["text"])["input_ids"])
        text = example.inputs["text"]
        for place, (start, end) in enumerate(tiny_tokenizer(text, return_offsets_mapping=True)["offset_mapping"]):
            if place:
                losses.append(-log_softmax(logits[place])[int("1" in marks_of(text)[start:end])])
    validated = [entry["eval_loss"] for entry in history(run) if "eval_loss" in entry]
    assert min(validated) == pytest.approx(np.mean(losses), rel=1e-3)
