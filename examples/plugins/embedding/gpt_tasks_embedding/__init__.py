"""Text embeddings: texts that belong together get vectors that lie close to each other."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, Literal
from zlib import crc32

from pydantic import Field

from gpt_tasks import Example, Fixtures, HeadOptions, HeadTask, LearnerSpec, Metric, Rows, TaskCard, hookimpl

GPT_TASKS_HOOKS = 1


class Vector(list[float]):
    """A text's vector, of length 1. `positive` is that of the text which belongs to it, where that was given."""

    def __init__(self, numbers: Iterable[float], positive: Sequence[float] | None = None) -> None:
        super().__init__(numbers)
        self.positive = positive


def ranks(rows: Rows) -> list[int]:
    """Return how many other positives are as close to each anchor as its own; equal texts count once."""
    import numpy as np

    pairs = [pair for (pair,) in rows.references]
    vectors = dict(pairs)
    places = {text: place for place, text in enumerate(vectors)}
    similarities = np.array(rows.predictions) @ np.array(list(vectors.values())).T
    own = similarities[np.arange(len(pairs)), [places[text] for text, _ in pairs]]
    return ((similarities >= own[:, None]).sum(axis=1) - 1).tolist()


def retrieval(name: str, description: str, gain: Callable[[int], float]) -> Metric:
    """Return the metric of the mean gain of the ranks of anchors' positives."""
    return Metric(name, description, range=(0.0, 1.0), each=lambda rows: list(map(gain, ranks(rows))))


def counted_words(text: str) -> list[float]:
    """Return a vector of length 1 that says which words a text holds."""
    counts = [0.0] * 512
    for word in text.lower().split():
        counts[crc32(word.strip(".,;:?!'").encode()) % len(counts)] += 1
    length = math.hypot(*counts)
    return [count / length for count in counts]


class EmbeddingOptions(HeadOptions):
    """The options of embeddings."""

    pooling: Literal["mean", "last"] | None = Field(None, description="The mean of all tokens, or the last one.")
    temperature: float | None = Field(None, gt=0, description="What similarities are divided by in the loss.")
    batch_examples: int | None = Field(None, ge=2, description="Pairs in a batch, each the others' negative.")


class Embedding(HeadTask):
    """Give texts vectors that lie close to each other where the texts belong together."""

    name = "embedding"
    columns = {"anchor": "anchor"}
    target = "positive"
    prompt = "{anchor}"
    learner = "contrastive"
    head = None
    metrics = ("recall_at_1", "recall_at_5", "ndcg")
    own_metrics = (
        retrieval("recall_at_1", "Share of anchors whose positive is the nearest.", lambda rank: float(rank < 1)),
        retrieval("recall_at_5", "Share of anchors whose positive is in the first five.", lambda rank: float(rank < 5)),
        retrieval("ndcg", "Gain of the positive, discounted by its rank.", lambda rank: 1 / math.log2(rank + 2)),
    )
    best_metric = "ndcg"
    pooling = "mean"
    temperature = 0.05
    batch_examples = 16
    Options = EmbeddingOptions

    def defaults(self, method: str, parameters: int) -> Mapping[str, float]:
        """Return smaller steps than the method's: the negatives of a few pairs are soon distinguished."""
        return {"learning_rate": 3e-4} if method == "full" and parameters < 30e6 else {}

    def compared(self, example: Example, prediction: Vector) -> tuple[Vector, Sequence[Any]]:
        """Return the anchor's vector, and the positive with its own."""
        return prediction, [(example.target, prediction.positive)]

    def to_text(self, prediction: Vector) -> str:
        return f"{', '.join(f'{number:.3f}' for number in prediction[:4])}, ... ({len(prediction)})"

    def card(self) -> TaskCard:
        return TaskCard(
            answers="vector",
            does="gives texts vectors for {task}: the more two belong together, the larger is their dot product",
            baselines="The baseline compares vectors of counted words. ",
            pipeline_tag="feature-extraction",
        )

    def fixtures(self) -> Fixtures:
        """Return one vector for both texts, or opposite ones. The positive is read, so that no target can leak."""

        def gold(example: Example, sign: int = 1) -> Vector:
            vector = counted_words(str(example.target))
            return Vector((sign * number for number in vector), vector)

        return replace(super().fixtures(), gold=gold, wrong=lambda example: gold(example, -1), retarget=None)


@hookimpl
def register_tasks() -> Sequence[Embedding]:
    return [Embedding()]


@hookimpl
def register_learners() -> Sequence[LearnerSpec]:
    says = "Vectors, learned from pairs among each other's negatives."
    return [LearnerSpec("contrastive", says, lambda: import_module("gpt_tasks_embedding.learner").ContrastiveLearner)]
