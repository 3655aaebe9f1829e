"""Learners of a language model by its own output matrix: generated answers, and plain texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from gpt_tasks.backbone.load import Backbone
from gpt_tasks.backbone.precision import resolve_precision
from gpt_tasks.backbone.tokens import end_also_at
from gpt_tasks.data.encoded import IGNORE_INDEX, EncodedExamples
from gpt_tasks.data.examples import Examples
from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.statistics import Tally
from gpt_tasks.extensions import Metric
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.generator import Generator
from gpt_tasks.heads.language_model import LanguageModel
from gpt_tasks.learners.base import Learner, P
from gpt_tasks.learners.inference import numbers_of
from gpt_tasks.metrics.aggregate import perplexity
from gpt_tasks.processes import all_gather, by_itself, rank, world_size
from gpt_tasks.scoring.engine import BATCH_TOKENS
from gpt_tasks.scoring.scorer import Scorer
from gpt_tasks.shown import quoted
from gpt_tasks.tasks.text_to_text import PERPLEXITY
from gpt_tasks.threads import LOADING, loaded_once
from gpt_tasks.types import Encoded, Example, Features, LogLikelihood, TextPrediction

# Validation during training evaluates this many tokens, and answers this many examples.
MOST_JUDGED = 200_000
MOST_WRITTEN = 100


class CausalLearner(Learner[P]):
    """The loss on next tokens, those that are to be learned."""

    labels_are_tokens: ClassVar[bool] = True

    def check(self, lm_weight: float) -> None:
        """Raise UsageError for settings of heads."""
        for flag, value, default in (
            ("lm-weight", lm_weight, 0),
            ("class-weights", self.settings.class_weights, "none"),
        ):
            if value != default:
                raise UsageError(
                    f"--{flag} is for a head, and task '{self.task.name}' has none: {value}", "Leave it out."
                )

    def prepare_backbone(self, train: Examples) -> None:
        """Nothing is missing."""

    def join(
        self,
        transformer: nn.Module,
        head: nn.Module | None,
        *,
        output_matrix: Tensor | None = None,
        lm_weight: float = 0,
    ) -> LanguageModel:
        """Let the backbone's own output matrix predict the tokens."""
        return LanguageModel(transformer, self.backbone.model)

    def encode(self, examples: Sequence[Example]) -> list[Features]:
        """Encode as the task says; one example may become several features."""
        tokenizer, length = self.backbone.tokenizer, self.settings.max_length
        return [causal_features(encoded) for encoded in self.task.encode(examples, tokenizer, length)]

    def compute(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the cross-entropies in nats, `[batch]`, each the sum over the tokens that are to be learned."""
        losses: Tensor = model.losses(**batch)
        return losses

    def reduce(self, batch: Mapping[str, Tensor], computed: Tensor) -> list[np.ndarray]:
        """Return the cross-entropy of each example."""
        return numbers_of(batch, computed)

    def losses(self, features: Sequence[Features]) -> np.ndarray:
        """Return the cross-entropies in nats, `[n]`."""
        return np.array(self.outputs_of(features), dtype=np.float64)

    def validation_loss(self, encoded: EncodedExamples) -> float:
        """Return the mean cross-entropy in nats of the tokens to be learned, of the first 200,000 tokens."""
        most = int(np.searchsorted(np.cumsum(encoded.lengths), MOST_JUDGED)) + 1
        mine = encoded.__getitems__(range(rank(), min(most, len(encoded)), world_size()))
        learned = sum(int((np.asarray(each.token_labels) != IGNORE_INDEX).sum()) for each in mine)
        shares = all_gather((float(self.losses(mine).sum()), learned))
        return sum(total for total, _ in shares) / sum(count for _, count in shares)


class TextLearner(CausalLearner[TextPrediction]):
    """Generates answers after prompts, and is validated by them."""

    writes: ClassVar[bool] = True

    def prepare_backbone(self, train: Examples) -> None:
        """Give the tokenizer what the task needs, and end texts where the task's answers do."""
        end_also_at(self.backbone.model, self.backbone.tokenizer, self.task.prepare(self.backbone.tokenizer))

    @loaded_once
    def generator(self) -> Generator:
        """The current model, which generates."""
        backbone, settings = self.backbone, self.settings
        return Generator(
            backbone.model,
            backbone.tokenizer,
            window=backbone.context_length,
            precision=settings.writing_precision or settings.precision,
        )

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> list[TextPrediction]:
        """Write about each example; with `scored`, also say how likely the right answer is."""
        settings = self.settings
        decoding = Decoding.checked(**(settings.decoding or {}))
        most = decoding.max_new_tokens or self.task.max_tokens
        decoding = decoding.model_copy(update={"max_new_tokens": most})
        prompts = [self.prompt_tokens(example) for example in examples]
        texts = self.generator.write_on(prompts, decoding, batch_tokens=8 * settings.batch_tokens)
        known = self._log_likelihoods(examples) if scored else [None] * len(examples)
        return [
            TextPrediction(written[0].text.strip(), written[0].finish_reason, each)
            for written, each in zip(texts, known, strict=True)
        ]

    def prompt_tokens(self, example: Example) -> list[int]:
        """Return the prompt, shortened so that the answer has room. Raises UsageError where it has none."""
        most = Decoding.checked(**(self.settings.decoding or {})).max_new_tokens or self.task.max_tokens
        room = self.settings.max_length - most
        if room < 1:
            raise UsageError(
                f"Answers of {most} tokens leave no room for a prompt in {self.settings.max_length}",
                "Train with a smaller --max-tokens or a larger --max-length, or give fewer max_new_tokens.",
            )
        tokens: list[int] = self.task.prompt_tokens(example, self.backbone.tokenizer, room)
        return tokens

    def _log_likelihoods(self, examples: Sequence[Example]) -> list[LogLikelihood]:
        """Return the log-likelihood of each right answer."""
        # An example may be encoded in several pieces.
        pieces = [self.encode([example]) for example in examples]
        features = [piece for some in pieces for piece in some]
        owners = np.repeat(np.arange(len(examples)), [len(some) for some in pieces])
        learned = [int((np.asarray(each.token_labels) != IGNORE_INDEX).sum()) for each in features]
        counts = np.bincount(owners, learned, len(examples))
        sums = np.bincount(owners, self.losses(features), len(examples))
        return [
            LogLikelihood(-nats, False, int(count)) for nats, count in zip(sums.tolist(), counts.tolist(), strict=True)
        ]

    def report_metrics(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return the perplexity of the right answers, and the task's metrics."""
        return [perplexity(PERPLEXITY), *(metric for metric in metrics if metric.name != PERPLEXITY)]

    def validate(
        self, validation: Examples, encoded: EncodedExamples, metrics: Sequence[Metric]
    ) -> Mapping[str, float]:
        """Return the loss by token, and the metrics of what is written about the first 100 examples."""
        loss = self.validation_loss(encoded)
        few = list(islice(validation, rank(), MOST_WRITTEN, world_size()))
        mine = list(zip(few, self.predict(few), strict=True)) if few else []
        every = [pair for some in all_gather(mine) for pair in some]
        tally = Tally(self.task, [metric for metric in metrics if metric.name != PERPLEXITY])
        tally.add([example for example, _ in every], [prediction for _, prediction in every])
        return {"loss": loss, PERPLEXITY: math.exp(loss), **tally.values()}

    def fit_baselines(self, train: Examples, validation: Examples) -> None:
        """Fit the task's baselines to the training data."""
        self.task = self.task.fit_baselines(train)

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[TextPrediction]]:
        """Return the answers of the task's baselines."""
        found: dict[str, list[TextPrediction]] = {}
        for example in examples:
            for way, text in self.task.baselines(example).items():
                found.setdefault(way, []).append(TextPrediction(text))
        return found

    def notes(self) -> tuple[str, ...]:
        """Note where answers are generated in another precision than their perplexity is computed in."""
        if self.generator.precision != "int8":
            return ()
        return (f"The answers are written in int8, perplexity is computed in {self.settings.precision}.",)


class LanguageModelingLearner(CausalLearner[LogLikelihood]):
    """Learns texts, and is evaluated by the likelihood of others: by the engine that scores suites.

    `before` is the backbone before training, to compare with.
    """

    # Texts are long: this many are scored at a time.
    chunk: ClassVar[int] = 64
    before: Backbone | None = None

    @classmethod
    def for_baselines(cls, task: Any, seed: int) -> None:
        """The baseline is the backbone itself."""

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> list[LogLikelihood]:
        """Return the log-likelihoods of texts. Raises UsageError unless `scored`: such a model answers nothing."""
        if not scored:
            raise UsageError(
                f"A model of task '{self.task.name}' answers nothing: it continues texts",
                f'Take gpt-tasks generate {quoted(self.backbone.spec)} "TEXT"',
            )
        return self._scored_by(self.backbone, examples)

    def validation_metrics(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Only the loss is computed during training."""
        return []

    def validate(
        self, validation: Examples, encoded: EncodedExamples, metrics: Sequence[Metric]
    ) -> Mapping[str, float]:
        """Return the loss by token, the end of each text among them."""
        return {"loss": self.validation_loss(encoded)}

    def fit_baselines(self, train: Examples, validation: Examples) -> None:
        """Open the backbone before training."""
        from gpt_tasks.backbone.load import open_backbone

        self.before = open_backbone(self.backbone.location)

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[LogLikelihood]]:
        """Return the log-likelihoods by the backbone before training."""
        return {} if self.before is None else {"before": self._scored_by(self.before, examples)}

    def _scored_by(self, backbone: Backbone, examples: Iterable[Example]) -> list[LogLikelihood]:
        examples, scorer = list(examples), self._scorer(backbone)
        requests = [request for each in examples for request in self.task.requests(scorer.literal(each), "")]
        with by_itself():
            answers = scorer.answer(requests).answers
        return [self.task.prediction(example, [answer]) for example, answer in zip(examples, answers, strict=True)]

    def _scorer(self, backbone: Backbone) -> Scorer:
        scorers: dict[int, Any] = self.__dict__.setdefault("_scorers", {})
        with LOADING:
            if id(backbone) not in scorers:
                scorers[id(backbone)] = Scorer(
                    backbone,
                    device=self.settings.device,
                    precision=resolve_precision(self.settings.precision, self.settings.device),
                    batch_tokens=BATCH_TOKENS,
                )
        found: Scorer = scorers[id(backbone)]
        return found


def causal_features(encoded: Encoded) -> Features:
    """Return the features of a language model: a token's label is the token itself, where it is to be learned."""
    labels = [IGNORE_INDEX] * len(encoded.input_ids)
    for start, end in encoded.label_spans:
        labels[start:end] = encoded.input_ids[start:end]
    return Features([encoded.input_ids], token_labels=labels, truncated=encoded.truncated)
