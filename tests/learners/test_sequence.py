"""Learners of whole texts: what a head learns of targets, by which loss, and what its logits mean."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn import metrics
from torch.nn import functional
from transformers import GPT2Config, GPT2Model

from gpt_tasks.data.encoded import store_features
from gpt_tasks.data.examples import store_examples
from gpt_tasks.errors import UsageError
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.sequence import SequenceHead
from gpt_tasks.learners.base import Learner, LearnerSettings
from gpt_tasks.learners.baselines import best_cut
from gpt_tasks.learners.choice import MultipleChoiceLearner
from gpt_tasks.learners.labels import (
    ClassificationLearner,
    MultiLabelLearner,
    RegressionLearner,
)
from gpt_tasks.metrics import METRICS
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.multi_label import MultiLabelTask
from gpt_tasks.tasks.multiple_choice import MultipleChoiceTask
from gpt_tasks.tasks.regression import RegressionTask
from gpt_tasks.types import Example, Features

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

TEXTS = [[3, 7, 1, 9, 4], [5, 2, 8], [6]]


class Tone(ClassificationTask):
    """Tell harsh from kind letters."""

    name = "tone"
    labels = ("harsh", "kind")


class Mood(ClassificationTask):
    """Tell moods apart."""

    name = "mood"
    labels = ("glad", "sad", "so-so")


class Tags(MultiLabelTask):
    """Tag texts."""

    name = "tags"
    labels = ("food", "money", "travel", "work")


class Stars(RegressionTask):
    """Give stars."""

    name = "stars"


class Pick(MultipleChoiceTask):
    """Choose."""

    name = "pick"
    columns: ClassVar = {"choices": "choices", "answer": "answer"}


LEARNERS = {
    Tone: ClassificationLearner,
    Mood: ClassificationLearner,
    Tags: MultiLabelLearner,
    Stars: RegressionLearner,
    Pick: MultipleChoiceLearner,
}


def learner_of(task: Any, **settings: Any) -> Any:
    """The task's learner, without a backbone."""
    given = {"max_length": 64, "batch_tokens": 256, "precision": "float32", "device": torch.device("cpu"), **settings}
    return LEARNERS[type(task)](task, SimpleNamespace(tokenizer=None, model=None), LearnerSettings(**given))


def decoded(task: Any, logits: Any) -> list[Any]:
    rows = np.asarray(logits, dtype=np.float32)
    return list(learner_of(task).decode([Example({"text": "a"}, None, "")] * len(rows), list(rows)))


def model_of(learner: Learner[Any]) -> HeadModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    return learner.join(GPT2Model(config), SequenceHead(16, learner.outputs)).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = torch.zeros(len(TEXTS), 7, dtype=torch.long), torch.zeros(len(TEXTS), 7, dtype=torch.long)
    for row, text in enumerate(TEXTS):
        ids[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), 1
    return ids, mask


class TestClassification:
    def test_logits_become_the_most_probable_label_and_all_probabilities(self) -> None:
        first, second = decoded(Tone(), np.log([[0.9, 0.1], [0.2, 0.8]]))
        assert (first.label, second.label) == ("harsh", "kind")
        assert first.probabilities == pytest.approx({"harsh": 0.9, "kind": 0.1})
        assert sum(second.probabilities.values()) == pytest.approx(1)
        assert decoded(Tone(), np.zeros((0, 2))) == []

    def test_large_logits_overflow_nothing(self) -> None:
        (prediction,) = decoded(Tone(), [[1e4, -1e4]])
        assert prediction.probabilities == {"harsh": 1.0, "kind": 0.0}

    def test_what_is_learned_is_the_labels_place_and_there_is_an_output_for_each(self) -> None:
        learner = learner_of(Mood())
        assert [int(learner.label(label)) for label in ("so-so", "glad", "sad")] == [2, 0, 1]
        assert learner.outputs == 3

    def test_the_task_says_what_is_read_and_an_example_without_a_target_has_no_label(
        self, tiny_tokenizer: PreTrainedTokenizerBase
    ) -> None:
        learner = learner_of(Mood(), max_length=16)
        learner.backbone = SimpleNamespace(tokenizer=tiny_tokenizer)
        examples = [Example({"text": "Soup."}, "sad", "r:1"), Example({"text": "Cold soup. " * 9}, None, "r:2")]
        short, long = learner.encode(examples)
        assert short == Features([tiny_tokenizer("Soup.\nLabel:")["input_ids"]], labels=1)
        assert long.labels is None
        assert long.windows == len(long.sequences) > 1
        assert all(len(ids) <= 16 for ids in long.sequences)
        assert learner.holds_target(short)

    def test_class_weights_weigh_examples_and_are_not_saved(self, tmp_path: Path) -> None:
        targets = ["glad"] * 6 + ["sad"] * 3 + ["so-so"]
        examples = [Example({"text": f"number {row}"}, target, "") for row, target in enumerate(targets)]
        train = store_examples(examples, tmp_path).labelled(Mood.labels, {label: label for label in Mood.labels})
        learner = learner_of(Mood(), class_weights="balanced")
        learner.check(lm_weight=0.0)
        learner.prepare_backbone(train)
        weights = torch.tensor([10 / 18, 10 / 9, 10 / 3])
        torch.testing.assert_close(learner.class_weights, weights)
        model, labels = model_of(learner), torch.tensor([0, 1, 2])
        each = functional.cross_entropy(model(*batch())["logits"], labels, reduction="none")
        torch.testing.assert_close(model(*batch(), labels=labels)["loss"], (weights[labels] * each).sum() / 3)
        assert not any("weights" in name for name in model.state_dict())

    def test_the_validation_loss_is_without_class_weights(self, tmp_path: Path) -> None:
        learner = learner_of(Tone(), class_weights="balanced")
        learner.class_weights = torch.tensor([0.5, 2.0])
        encoded = store_features([[Features([[1]], labels=np.int64(place)) for place in (0, 1, 1)]], tmp_path)
        outputs = list(np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])))
        assert learner.mean_loss(outputs, encoded) == pytest.approx(-np.log([0.9, 0.8, 0.5]).mean())

    def test_validation_is_decoded_a_chunk_at_a_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        learner = learner_of(Tone())
        right = [0, 1, 1, 0, 1]
        examples = store_examples((Example({"text": "Dear"}, Tone.labels[place], "") for place in right), tmp_path)
        encoded = store_features([[Features([[1]], labels=np.int64(place)) for place in right]], tmp_path)
        outputs = list(np.random.default_rng(0).normal(size=(5, 2)))
        monkeypatch.setattr(learner, "validation_outputs", lambda encoded: outputs)
        whole = learner.validate(examples, encoded, METRICS)
        sizes, decode = [], learner.decode
        monkeypatch.setattr(learner, "decode", lambda some, rows: sizes.append(len(rows)) or decode(some, rows))
        monkeypatch.setattr(ClassificationLearner, "chunk", 2)
        assert learner.validate(examples, encoded, METRICS) == whole
        assert sizes == [2, 2, 1]
        likelihoods = [
            functional.log_softmax(torch.tensor(row), -1)[place] for row, place in zip(outputs, right, strict=True)
        ]
        assert whole["loss"] == pytest.approx(-float(sum(likelihoods)) / 5)

    @pytest.mark.parametrize("task", [Tags(), Stars(), Pick()])
    def test_class_weights_are_for_one_of_several_labels(self, task: Any) -> None:
        with pytest.raises(UsageError, match=f"--class-weights is for one of several labels, and task '{task.name}'"):
            learner_of(task, class_weights="balanced").check(lm_weight=0.0)


class TestSeveralLabels:
    def test_what_is_learned_is_one_for_each_right_label(self) -> None:
        learner = learner_of(Tags())
        assert learner.label('["travel", "food"]').tolist() == [1, 0, 1, 0]
        assert learner.label("[]").tolist() == [0, 0, 0, 0]
        assert learner.outputs == 4

    def test_labels_are_given_from_the_threshold_on(self) -> None:
        task = Tags()
        logits = [[0.0, 0.5, -2.0, 3.0], [-1.0, -1.0, -1.0, -1.0]]
        first, second = decoded(task, logits)
        assert (first.labels, second.labels) == (("food", "money", "work"), ())
        assert first.probabilities == pytest.approx(dict(zip(Tags.labels, expit(logits[0]), strict=True)))
        task.threshold = 0.9
        assert decoded(task, logits)[0].labels == ("work",)
        assert decoded(task, np.zeros((0, 4))) == []

    def test_each_label_has_a_separate_loss(self) -> None:
        learner, ignored = learner_of(Tags()), -100.0
        model = model_of(learner)
        logits = model(*batch())["logits"]
        labels = torch.tensor([[1.0, 0, 1, 0], [ignored] * 4, [0, 0, 0, 0]])
        expected = functional.binary_cross_entropy_with_logits(logits[[0, 2]], labels[[0, 2]])
        torch.testing.assert_close(model(*batch(), labels=labels)["loss"], expected)

    def test_a_threshold_that_was_set_stays(self, tmp_path: Path) -> None:
        def calibrated(task: Tags, logits: list[float], right: list[str]) -> MultiLabelLearner:
            learner = learner_of(task)
            features = [Features([[1]], labels=learner.label(json.dumps(right)))]
            return learner.calibrated([np.array(logits)], store_features([features], tmp_path))

        task = Tags()
        task.threshold = 0.25
        assert calibrated(task, [0.0] * 4, list(Tags.labels)).task.threshold == 0.25
        free = Tags()
        assert calibrated(free, [3.0, -3.0, -3.0, -3.0], ["food"]).task.threshold == pytest.approx(0.5)
        assert free.threshold is None

    @pytest.mark.parametrize("seed", range(5))
    def test_the_cut_is_the_best_there_is(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        # Coarse logits, so that many tie.
        labels, logits = random.random((20, 3)) < 0.3, random.integers(-4, 5, (20, 3)) / 2
        labels[0, 0] = True

        def f1(cut: float) -> float:
            return float(metrics.f1_score(labels, logits >= cut, average="micro", zero_division=0.0))

        assert f1(best_cut(logits, labels)) == pytest.approx(max(f1(cut) for cut in np.arange(-5, 6, 0.25)))


class TestNumbers:
    def test_what_is_learned_are_deviations_in_standard_deviations_and_back(self) -> None:
        task = Stars()
        task.mean, task.std = 3.0, 2**0.5
        learner = learner_of(task)
        labels = np.array([learner.label(number) for number in ("1.0", "4.0")])
        assert labels == pytest.approx([-(2**0.5), 0.5**0.5])
        assert decoded(task, labels[:, None]) == pytest.approx([1.0, 4.0])
        assert learner.outputs == 1

    def test_their_loss_is_the_squared_error(self) -> None:
        learner, ignored = learner_of(Stars()), -100.0
        model = model_of(learner)
        logits = model(*batch())["logits"]
        numbers = torch.tensor([0.5, ignored, -2.0])
        expected = functional.mse_loss(logits[[0, 2], 0], numbers[[0, 2]])
        torch.testing.assert_close(model(*batch(), labels=numbers)["loss"], expected)


class TestChoices:
    def test_the_best_score_is_the_answer_and_a_choice_that_is_not_there_is_none(self) -> None:
        inf = float("inf")
        first, second = decoded(Pick(), [[1.0, 2.0, -inf], [0.0, 0.0, 1.0]])
        assert (first.label, second.label) == ("1", "2")
        assert first.probabilities == pytest.approx({"0": 1 / (1 + np.e), "1": np.e / (1 + np.e)})
        assert list(second.probabilities) == ["0", "1", "2"]
        assert sum(second.probabilities.values()) == pytest.approx(1)

    def test_scores_of_examples_with_fewer_choices_are_filled_up(self) -> None:
        rows = [np.array([0.5, 0.5]), np.array([0.0, 1.0, 2.0])]
        first, second = learner_of(Pick()).decode([Example({}, None, "")] * 2, rows)
        assert first.probabilities == pytest.approx({"0": 0.5, "1": 0.5})
        assert second.label == "2"

    def test_their_loss_is_the_cross_entropy_of_the_right_place(self) -> None:
        inf = float("inf")
        scores = torch.tensor([[1.0, 2.0, -inf], [0.5, 0.0, 1.0], [3.0, 1.0, 2.0]])
        learner = learner_of(Pick())
        labels = torch.tensor([int(learner.label("1")), int(learner.label("0")), -100])
        expected = functional.cross_entropy(scores[:2], labels[:2], reduction="sum")
        torch.testing.assert_close(learner.loss(scores, labels), expected)

    def test_the_longest_choice_is_the_baseline(self) -> None:
        (found,) = learner_of(Pick()).baselines([Example({}, "0", "", choices=("no", "not at all", "yes"))])["longest"]
        assert (found.label, found.probabilities) == ("1", {"1": 1.0})


def test_a_learner_says_which_heads_it_can_fit_on_a_frozen_backbone() -> None:
    from gpt_tasks.heads.span import SpanHead
    from gpt_tasks.learners.causal import TextLearner
    from gpt_tasks.learners.span import SpanLearner

    linear, span = SequenceHead(8, 2), SpanHead(8)
    heads = {kind: (kind.fits(linear), kind.fits(span)) for kind in (ClassificationLearner, SpanLearner, TextLearner)}
    assert heads == {ClassificationLearner: (True, False), SpanLearner: (False, True), TextLearner: (False, False)}
