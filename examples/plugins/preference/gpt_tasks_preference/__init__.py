"""Preferences: of two answers to a prompt, the model is to find that one likelier which people chose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from pydantic import Field

from gpt_tasks import Example, Fixtures, LearnerSpec, Metric, Statistic, Task, TaskCard, TaskOptions, hookimpl

GPT_TASKS_HOOKS = 1
PROMPT, CHOSEN, REJECTED = "prompt", "chosen", "rejected"


@dataclass(frozen=True, slots=True)
class Preferred:
    """The log-probability of the chosen answer less that of the rejected one, in nats, and which is the likelier."""

    margin: float

    @property
    def answer(self) -> str:
        """Return the field of the likelier answer."""
        return CHOSEN if self.margin > 0 else REJECTED


class PreferenceOptions(TaskOptions):
    """The options of preferences."""

    beta: float | None = Field(None, gt=0, description="How dearly a step away from the backbone is paid for.")


class Preference(Task):
    """Write what people prefer, learned from pairs of answers."""

    name = "preference"
    columns = {PROMPT: PROMPT, CHOSEN: CHOSEN, REJECTED: REJECTED}
    prompt = "{prompt}"
    learner = "preference"
    command = "generate"
    metrics = ("pair_accuracy", "margin")
    own_metrics = (
        Metric("pair_accuracy", "Share of pairs whose chosen answer is the likelier.", range=(0.0, 1.0)),
        Metric("margin", "Log-probability of chosen answers less that of rejected ones, in nats."),
    )
    beta = 0.1
    Options = PreferenceOptions

    def defaults(self, method: str, parameters: int) -> Mapping[str, float]:
        """Return smaller steps than those by which texts are learned."""
        return {"learning_rate": 2e-4 if parameters < 30e6 else 5e-6} if method == "full" else {}

    def references(self, example: Example) -> Sequence[str]:
        return (CHOSEN,)

    def plain(self, prediction: Preferred) -> str:
        return prediction.answer

    def score(self, example: Example, prediction: Preferred) -> Mapping[str, Statistic]:
        """Contribute whether the chosen answer is the likelier, and by how much."""
        right = float(prediction.answer == CHOSEN)
        return {"pair_accuracy": Statistic(right), "margin": Statistic(prediction.margin)}

    def to_json(self, prediction: Preferred) -> dict[str, Any]:
        return {"predicted": {"answer": prediction.answer, "margin": round(prediction.margin, 6)}}

    def to_text(self, prediction: Preferred) -> str:
        return f"{prediction.answer} ({prediction.margin:+.1f})"

    def card(self) -> TaskCard:
        return TaskCard(
            answers="preference",
            does="writes as people preferred in the data of {task}",
            limits=("Of answers of unlike length the shorter is often the likelier, independent of their content.",),
            baselines="They are the backbone before it was trained, and always the shorter answer. ",
            pipeline_tag="text-generation",
        )

    def fixtures(self) -> Fixtures:
        """Return a clear preference, its opposite, and a long prompt."""
        return Fixtures(
            gold=lambda example: Preferred(1.0),
            wrong=lambda example: Preferred(-1.0),
            lengthen=lambda example: replace(example, inputs={**example.inputs, PROMPT: example.inputs[PROMPT] * 8}),
            any_predictions=lambda example: [Preferred(0.0), Preferred(-1e9)],
        )


@hookimpl
def register_tasks() -> Sequence[Preference]:
    return [Preference()]


@hookimpl
def register_learners() -> Sequence[LearnerSpec]:
    says = "Preferred answers, by direct preference optimization."
    return [LearnerSpec("preference", says, lambda: import_module("gpt_tasks_preference.learner").PreferenceLearner)]
