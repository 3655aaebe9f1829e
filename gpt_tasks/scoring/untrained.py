"""Evaluate a backbone on a classification as it is: the likelihood of each label's word, after shots or without."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import log_softmax, logsumexp

from gpt_tasks.data.examples import Examples, store_examples, stream_examples
from gpt_tasks.data.sources import open_source
from gpt_tasks.data.splits import choose_split, settle
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.baselines import fit_baselines
from gpt_tasks.evaluation.evaluate import evaluate_examples, plain_texts
from gpt_tasks.evaluation.report import Report
from gpt_tasks.files import machine_errors
from gpt_tasks.plugins import Plugins
from gpt_tasks.scoring.engine import EngineName
from gpt_tasks.scoring.scorer import Scorer, open_scorer
from gpt_tasks.scoring.shots import Sampler, shots_for
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.untrained import SHOT_SEPARATOR
from gpt_tasks.types import Example, LogLikelihood

CONTENT_FREE = ("N/A", "", "[MASK]")
"""The inputs without content of Zhao et al. (2021), Calibrate before use, section 5."""


@dataclass(frozen=True)
class LikelihoodPredictor:
    """Answers a classification by the likelihoods of the labels' words.

    `calibrated` divides each probability by the one that the model gives the label after inputs without content
    (contextual calibration, Zhao et al., 2021), averaged over three of them.
    """

    task: ClassificationTask
    scorer: Scorer
    pool: Sequence[Example]
    shots: int
    own: bool
    sampler: Sampler
    seed: int
    calibrated: bool

    def logits(self, examples: Examples) -> np.ndarray:
        """Return the log-probabilities `[n, labels]` of the labels, which sum to one but for calibration."""
        every = list(examples)
        shots = shots_for(every, self.pool, self.shots, own=self.own, sampler=self.sampler, seed=self.seed)
        befores = [
            "".join(self.task.shot(shot) + SHOT_SEPARATOR for shot in shots(place)) for place in range(len(every))
        ]
        found = self._of([(example, before) for example, before in zip(every, befores, strict=True)])
        if not self.calibrated:
            return found
        distinct = list(dict.fromkeys(befores))
        empty = [
            (replace(every[0], inputs=dict.fromkeys(every[0].inputs, content)), before)
            for before in distinct
            for content in CONTENT_FREE
        ]
        free = self._of(empty).reshape(len(distinct), len(CONTENT_FREE), -1)
        bias = dict(zip(distinct, logsumexp(free, axis=1) - np.log(len(CONTENT_FREE)), strict=True))
        corrected: np.ndarray = found - np.stack([bias[before] for before in befores])
        return corrected

    def _of(self, asked: Sequence[tuple[Example, str]]) -> np.ndarray:
        requests = [request for example, before in asked for request in self.task.ask(example, before)]
        answers = self.scorer.answer(requests).answers
        values = [answer.value for answer in answers if isinstance(answer, LogLikelihood)]
        probabilities: np.ndarray = log_softmax(np.array(values).reshape(len(asked), -1), axis=-1)
        return probabilities


def evaluate_untrained(
    model: str,
    task: ClassificationTask,
    data: str | Path,
    plugins: Plugins,
    *,
    split: str | None = None,
    shots: int = 0,
    sampler: Sampler = "random",
    seed: int = 0,
    calibrated: bool = False,
    question: str | None = None,
    label_words: Mapping[str, str] | None = None,
    by: str | None = None,
    column: Mapping[str, str] | None = None,
    output: Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    engine: EngineName = "trie",
) -> Report:
    """Evaluate a backbone on labelled data without training; the report is that of a fine-tuned run.

    Shots and baselines come from the data's train split; where it has none, shots come from what is evaluated, never
    an example itself, and there are no baselines. Raises UsageError, DataError or ModelError.
    """
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output {output} is not empty", "Give a folder that is empty or not there yet.")
    with machine_errors(), plugins.attribute_errors(), tempfile.TemporaryDirectory(prefix="gpt-tasks-") as scratch:
        source = open_source(data, plugins.registry.sources)
        chosen = choose_split(source, split)

        def read(name: str) -> Examples:
            rows = stream_examples(task, source, name, columns=column or {}, by=by, need_labels=True)
            return store_examples(rows, Path(scratch))

        examples = read(chosen)
        train = read("train") if "train" in source.splits and chosen != "train" else None
        observed = {**examples.observed, **(train.observed if train else {})}
        settled, meaning = task.asked(question, label_words or {}).fitted(observed, examples.fields, source.name)
        examples = settle(settled, examples, meaning)
        settled.check_question(examples.fields)
        notes = list(source.notes)
        if train is None:
            notes.append("There is no train split: no baselines, and shots come from what is evaluated.")
        else:
            train = settle(settled, train, meaning)
        _, scorer = open_scorer(model, device=device, precision=precision, engine=engine)
        predictor = LikelihoodPredictor(
            task=settled,
            scorer=scorer,
            pool=list(examples if train is None else train) if shots else (),
            shots=shots,
            own=train is None,
            sampler=sampler,
            seed=seed,
            calibrated=calibrated,
        )
        baselines = None
        if train is not None:
            none = np.zeros(0, dtype=train.labels.dtype)
            baselines = fit_baselines(plain_texts(train), train.labels, [], none, len(settled.labels), seed=seed)
        return evaluate_examples(
            predictor,
            examples,
            split=chosen,
            metrics=[plugins.registry.metrics[name] for name in task.metrics],
            baselines=baselines,
            by=by,
            notes=notes,
            output=output,
        )
