"""Predictions of a prompted model: requests after few-shot examples, and what its responses mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from gpt_tasks.plugins import Plugins
from gpt_tasks.scoring.prompting import Template, requests_by
from gpt_tasks.scoring.shots import DEFAULT_SEED, Sampler, shots_for
from gpt_tasks.tasks.base import SHOT_SEPARATOR, Task
from gpt_tasks.types import Example, LogLikelihood, Request, Response

if TYPE_CHECKING:
    from gpt_tasks.data.examples import Examples
    from gpt_tasks.scoring.cache import AnswerCache
    from gpt_tasks.scoring.responder import RegisteredResponder
    from gpt_tasks.scoring.scorer import Scorer

CONTENT_FREE = ("N/A", "", "[MASK]")
"""The inputs without content of Zhao et al. (2021), Calibrate before use, section 5."""


class Prompting(BaseModel):
    """How a model is prompted; `chat_template` None is decided by `templates.choose_template`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    shots: int = Field(0, ge=0, description="The number of few-shot examples.")
    data: Any = Field(None, description="The data whose train split they are drawn from.")
    sampler: Sampler = Field("random", description="How they are drawn.")
    seed: int = Field(DEFAULT_SEED, ge=0, description="By which seed.")
    encoding: str | None = Field(None, description="The encoding of text files.")
    skip_invalid: bool = Field(False, description="Whether rows that cannot be used are left out.")
    calibrated: bool = Field(False, description="Whether labels are calibrated.")
    chat_template: bool | None = Field(None, description="Whether the model's chat template is applied.")
    question: str | None = Field(None, description="How an example reads before its label.")
    label_words: dict[str, str] = Field({}, description="The words for labels.")
    column: dict[str, str] = Field({}, description="The columns of fields.")
    options: dict[str, Any] = Field({}, description="The task's own options.")


class ZeroShotPredictor:
    """Answers examples, in their order, by what a model responds to a task's requests."""

    chunk = 4096

    def __init__(
        self,
        task: Task,
        responder: Scorer | RegisteredResponder,
        pool: Sequence[Example],
        prompting: Prompting,
        own: bool,
        template: Template | None = None,
    ) -> None:
        self.task = task
        self._template = template
        self._responder = responder
        self._calibrated = prompting.calibrated
        self._shots = shots_for(pool, prompting.shots, own=own, sampler=prompting.sampler, seed=prompting.seed)
        self._seed = prompting.seed
        self._baselines: Any = None
        self._cut = 0
        self._said: tuple[str, ...] = ()
        self.cache: AnswerCache | None = None

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> list[Any]:
        """Prompt for predictions. Raises UsageError where the question or the words do not go with the fields."""
        self.task.check_question(list(examples[0].inputs))
        contexts = [
            self.task.instruction
            + "".join(
                self.task.fewshot_example(self._responder.literal(shot)) + SHOT_SEPARATOR
                for shot in self._shots(example)
            )
            for example in examples
        ]
        responses = self._responses(list(zip(examples, contexts, strict=True)))
        if self.task.compares_labels:
            responses = self._normalized(examples, contexts, responses)
        return [self.task.prediction(example, each) for example, each in zip(examples, responses, strict=True)]

    def fit_baselines(self, plugins: Plugins, train: Examples | None) -> None:
        """Fit the baselines, on the training data if there are some."""
        if self.task.learner is None:
            return
        learner = plugins.registry.learners[self.task.learner].load().for_baselines(self.task, self._seed)
        if learner is not None and train is not None:
            learner.fit_baselines(train, train.subset([]))
        self._baselines = learner

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Any]]:
        """Return the baselines' predictions, by baseline."""
        return {} if self._baselines is None else self._baselines.baselines(examples)

    def notes(self) -> tuple[str, ...]:
        """Say what the engine noted, and how many examples were longer than the model's window."""
        cut = (f"{self._cut:,} examples were longer than the model's window.",) if self._cut else ()
        return (*dict.fromkeys(self._said), *cut)

    def _responses(self, asked: Sequence[tuple[Example, str]]) -> list[list[Response]]:
        requests = [
            requests_by(self._template, self.task, self._responder.literal(example), context)
            for example, context in asked
        ]
        every: list[Request] = [request for some in requests for request in some]
        found = self._responder.answer(every, self.cache)
        responses, cuts = iter(found.answers), iter(found.cut)
        self._said = (*self._said, *found.notes)
        self._cut += sum(max([next(cuts) for _ in some]) > 0 for some in requests)
        return [[next(responses) for _ in some] for some in requests]

    def _normalized(
        self, examples: Sequence[Example], contexts: Sequence[str], responses: Sequence[Sequence[Response]]
    ) -> list[list[Response]]:
        """Return log-probabilities of labels: they sum to one, except under calibration."""
        import numpy as np
        from scipy.special import log_softmax, logsumexp

        def log_probabilities(some: Sequence[Sequence[Response]]) -> np.ndarray:
            values = [[each.value for each in of if isinstance(each, LogLikelihood)] for of in some]
            normalized: np.ndarray = log_softmax(np.array(values), axis=-1)
            return normalized

        found = log_probabilities(responses)
        if self._calibrated:
            distinct = list(dict.fromkeys(contexts))
            empty = [
                (replace(examples[0], inputs=dict.fromkeys(examples[0].inputs, content)), context)
                for context in distinct
                for content in CONTENT_FREE
            ]
            free = log_probabilities(self._responses(empty)).reshape(len(distinct), len(CONTENT_FREE), -1)
            bias = dict(zip(distinct, logsumexp(free, axis=1) - np.log(len(CONTENT_FREE)), strict=True))
            found = found - np.stack([bias[context] for context in contexts])
        return [[LogLikelihood(value, False) for value in row] for row in found.tolist()]
