"""The fine-tuning of a head on the backbone, judged by what examples bring to figures."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from gpt_tasks.backbone.tokens import add_tokens
from gpt_tasks.data.draws import stratified_sample
from gpt_tasks.data.encoded import EncodedExamples
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.baselines import Baselines, fit_baselines
from gpt_tasks.evaluation.evaluate import plain_texts
from gpt_tasks.evaluation.logits import Feature, head_logits, stacked
from gpt_tasks.evaluation.measured import HeadAnswers, evaluate_measured
from gpt_tasks.evaluation.predictor import Predictor, TaskT
from gpt_tasks.evaluation.report import Report
from gpt_tasks.extensions import HeadSpec
from gpt_tasks.heads.choice_probe import fit_choice_probe
from gpt_tasks.heads.linear_probe import fit_probe
from gpt_tasks.heads.losses import LOSSES
from gpt_tasks.heads.model import TaskModel
from gpt_tasks.heads.saved import save_model
from gpt_tasks.heads.sequence import Features, LinearHead
from gpt_tasks.plugins import Plugins
from gpt_tasks.processes import all_gather, rank, world_size
from gpt_tasks.scoring.results import figure
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.headed import HeadTask, Loss, MeasuredTask
from gpt_tasks.training.session import Session

# A frozen backbone's features are kept in memory, a few KiB for each row.
MOST_PROBE_ROWS = 50_000


@dataclass
class HeadSession(Session):
    """A fine-tuning of a head: what it says is compared with the goals of the right answers."""

    task: HeadTask
    model: TaskModel = field(init=False)

    @property
    def head(self) -> HeadSpec:
        """The kind of head: the task's, or the one that takes its place on a frozen backbone."""
        heads = self.plugins.registry.heads
        kind = heads[self.task.head]
        return heads[kind.frozen] if self.method.frozen and kind.frozen else kind

    def build(self) -> TaskModel:
        """Join a new head with the backbone, which is given the tokens that the task needs."""
        add_tokens(self.backbone, self.task.own_tokens())
        return join_head(self, self.head, self.task.outputs, self.task.loss, self.class_weights())

    def class_weights(self) -> torch.Tensor | None:
        """Return the weights `[outputs]` of labels in the loss. Raises UsageError where there is none to weigh."""
        if self.settings.class_weights == "balanced":
            raise UsageError(
                f"--class-weights is for one of several labels, and task '{self.task.name}' is not", "Leave it out."
            )
        return None

    def logits(self, validation: EncodedExamples) -> np.ndarray:
        """Return the logits `[n, outputs]` of the validation split, to which each process brings its share."""
        shares = all_gather(self._shown(self.model, validation, range(rank(), len(validation), world_size())))
        # Of fewer examples than processes, the last processes judge none.
        every = stacked([share for share in shares if len(share)])
        places = np.concatenate([np.arange(start, len(validation), world_size()) for start in range(world_size())])
        logits = np.empty_like(every)
        logits[places] = every
        return logits

    def learn(self, train: EncodedExamples, validation: EncodedExamples) -> None:
        """Move the weights; or compute a frozen backbone's features once, and fit the head on them."""
        if not self.method.frozen:
            super().learn(train, validation)
            return
        head = self.model.head
        if not isinstance(head, LinearHead):
            raise UsageError(
                f"--method {self.method.name} fits a linear head; the head of task '{self.task.name}' is another",
                "Take --method full or lora.",
            )
        rows = np.arange(len(train))
        if len(train) > MOST_PROBE_ROWS:
            labels = self.splits.train.labels if self.task.loss == "cross_entropy" else np.zeros_like(rows)
            rows = stratified_sample(labels, MOST_PROBE_ROWS, np.random.default_rng([self.settings.seed, 2]))
            how = "by label" if self.task.loss == "cross_entropy" else "at random"
            note = f"The head was fitted on {len(rows):,} of {len(train):,} training rows, drawn {how}."
            self.splits = replace(self.splits, notes=(*self.splits.notes, note))
            if rank() == 0:
                print(note, file=sys.stderr)
        every = range(len(validation))
        if self.task.loss == "choice":
            probe = fit_choice_probe(
                *self._features_of_choices(head, train, rows),
                goals_of(train)[rows],
                *self._features_of_choices(head, validation, every),
                goals_of(validation),
            )
        else:
            probe = fit_probe(
                self._features(head, train, rows),
                goals_of(train)[rows],
                self._features(head, validation, every),
                goals_of(validation),
                self.task.outputs,
                None if self.model.class_weights is None else self.model.class_weights.cpu().numpy(),
                loss=self.task.loss,
            )
        with torch.no_grad():
            head.linear.weight.copy_(torch.from_numpy(probe.weight))
            head.linear.bias.copy_(torch.from_numpy(probe.bias))
        self.training |= {"updates": 0, "epochs": 1, "examples_seen": len(rows), "examples_now": len(rows)}
        self.training["probe_strength"] = probe.strength

    def save(self) -> None:
        """Save the model with its head."""
        save_head(self, self.head, self.task.outputs)

    def predictor(self, task: TaskT) -> Predictor[TaskT]:
        """Return what answers `task` by the model as it is now."""
        settings, tokenizer = self.settings, self.backbone.tokenizer
        return Predictor(task, self.model, tokenizer, settings.max_length, settings.batch_tokens, settings.precision)

    def fit_baselines(self) -> Baselines:
        """Fit the baselines on the same rows, and keep them in the run's folder."""
        train, validation = self.splits.train, self.splits.validation
        baselines = fit_baselines(
            plain_texts(train),
            self.task.goals(train.label_names)[train.labels],
            plain_texts(validation),
            self.task.goals(validation.label_names)[validation.labels],
            self.task.outputs,
            loss=self.task.loss,
            seed=self.settings.seed,
        )
        baselines.save(self.folder.baselines)
        return baselines

    def _features(self, head: LinearHead, encoded: EncodedExamples, rows: Iterable[int]) -> np.ndarray:
        """Return what a linear head reads of these rows, `[rows, features]`."""
        return self._shown(TaskModel(self.model.backbone, Features(head)), encoded, rows)

    def _features_of_choices(
        self, head: LinearHead, encoded: EncodedExamples, rows: Iterable[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what a linear head reads of every choice, `[choices, features]`, and where each example's begin."""
        examples = [encoded[index] for index in rows]
        counts = np.array([max(each["choices"]) + 1 for each in examples])
        starts = np.cumsum(counts) - counts
        model = TaskModel(self.model.backbone, Features(head))
        said = self._said(model, ({"sequences": [ids]} for each in examples for ids in each["sequences"]))
        # A linear head says of a mean what is the mean of what it says.
        of_choice = np.concatenate(
            [start + np.array(each["choices"]) for start, each in zip(starts, examples, strict=True)]
        )
        sums = np.zeros((counts.sum(), said.shape[1]), dtype=np.float32)
        np.add.at(sums, of_choice, said)
        return sums / np.bincount(of_choice)[:, None].astype(np.float32), starts

    def _shown(self, model: TaskModel, encoded: EncodedExamples, rows: Iterable[int]) -> np.ndarray:
        """Return what a model with a head says of these rows, `[rows, outputs]`."""
        return self._said(model, (encoded[index] for index in rows))

    def _said(self, model: TaskModel, encodings: Iterable[Feature]) -> np.ndarray:
        return head_logits(
            model,
            encodings,
            batch_tokens=self.settings.batch_tokens,
            pad_token_id=self.backbone.tokenizer.pad_token_id,
            precision=self.settings.precision,
        )


@dataclass
class MeasuredSession(HeadSession):
    """A fine-tuning of a head whose figures follow from what each example brings to them."""

    task: MeasuredTask

    @staticmethod
    def directions(task: Task, plugins: Plugins) -> Mapping[str, str]:
        """Return the directions of the task's metrics."""
        assert isinstance(task, MeasuredTask)
        return {measure.name: measure.better for measure in task.measures if measure.name in task.metrics}

    def judge(self, validation: EncodedExamples) -> Mapping[str, float]:
        """Return the loss by goal, and the task's metrics, on the validation split."""
        logits, goals = self.logits(validation), goals_of(validation)
        total = LOSSES[self.task.loss](torch.from_numpy(logits), torch.from_numpy(goals), None)
        task = self.task.tuned(logits, goals)
        brought = [
            task.measure(example, answer)
            for example, answer in zip(self.splits.validation, task.decode(logits), strict=True)
        ]
        return {"loss": float(total) / goals.size} | {
            measure.name: figure(measure, [parts[measure.name] for parts in brought]).value
            for measure in task.measures
            if measure.name in task.metrics
        }

    def finish(self) -> Report:
        """Settle the task on validation and save the model; report it on the test split, beside the baselines."""
        validation = self.encoded(self.splits.validation, "validation")
        self.task = self.task.tuned(self.logits(validation), goals_of(validation))
        self.save()
        # The words of choices are new with every example.
        baselines = None if self.task.loss == "choice" else self.fit_baselines()
        return evaluate_measured(
            HeadAnswers(self.predictor(self.task), baselines),
            self.splits.test,
            split="test",
            training=self.training,
            notes=(*self.splits.notes, *(baselines.notes if baselines else ())),
            output=self.folder.path,
        )


def join_head(
    session: Session, kind: HeadSpec, outputs: int, loss: Loss, class_weights: torch.Tensor | None = None
) -> TaskModel:
    """Join a new head with a session's backbone, as its method prepares that."""
    causal_lm: Any = session.backbone.model
    head = kind.build(session.backbone.hidden_size, outputs)
    matrix, weight = None, session.settings.lm_weight
    if weight:
        matrix, embedding = causal_lm.get_output_embeddings().weight, causal_lm.get_input_embeddings().weight
        # An output matrix of its own stays as it is.
        matrix = matrix if matrix is embedding else matrix.detach()
    backbone = session.method.prepare(causal_lm.base_model)
    return TaskModel(backbone, head, class_weights, loss=loss, output_matrix=matrix, lm_weight=weight)


def save_head(session: Session, kind: HeadSpec, outputs: int) -> None:
    """Save a session's model, as its method leaves that, with its head."""
    model = session.model
    assert isinstance(model, TaskModel)
    model.backbone = session.method.finish(model.backbone)
    beside = session.method.saved_separately
    record = session.task_record(kind.name, outputs, session.method.name if beside else "")
    save_model(
        session.folder.model,
        session.backbone.model,
        session.backbone.tokenizer,
        model.head,
        record,
        added=model.backbone if beside else None,
    )


def goals_of(encoded: EncodedExamples) -> np.ndarray:
    """Return the goals of all examples, `[n]` or `[n, outputs]`; each must have one."""
    assert encoded.labels is not None
    assert encoded.goals is not None
    goals: np.ndarray = encoded.goals[encoded.labels]
    return goals
