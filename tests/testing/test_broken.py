"""Each check finds the one thing that is wrong with a task or its learner, and no other check blames them for it."""

from __future__ import annotations

import importlib
import random
import socket
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from typing import ClassVar

import pytest

from gpt_tasks import ClassificationTask, TextToTextTask
from gpt_tasks.extensions import HeadSpec, LearnerSpec
from gpt_tasks.plugins import GROUP, Plugins, load_plugins
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.classification import ClassificationOptions
from gpt_tasks.testing import CHECKS, check_task


class Tone(ClassificationTask):
    """Tell cheerful from gloomy sentences. Nothing is wrong with this one."""

    name = "tone"
    columns: ClassVar = {"text": "text", "label": "tone"}
    labels = ("cheerful", "gloomy")
    prompt = "Sentence: {text}\nTone:"


class Reason(TextToTextTask):
    """Say why a sentence has its tone. Nothing is wrong with this one."""

    name = "reason"
    prompt = "Sentence: {text}\nWhy:"
    answer = " {why}"


class Calling(Tone):
    def encode(self, examples, tokenizer, max_length):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", 9), timeout=0.1).close()
        return super().encode(examples, tokenizer, max_length)


class NamingTooMuch(Tone):
    metrics = ("accuracy", "sparkle")


class NamingNobody(Tone):
    learner = "nobody"


class NamingTheAnswer(Tone):
    prompt = "{text} {label}"


class Misnamed(Tone):
    columns: ClassVar = {"text": "text", "label": "mood"}


class Drawing(Tone):
    def encode(self, examples, tokenizer, max_length):
        encoded = super().encode(examples, tokenizer, max_length)
        return [replace(each, input_ids=[random.randrange(99), *each.input_ids[1:]]) for each in encoded]


class Leaking(Tone):
    def example(self, row, columns, extra=()):
        example = super().example(row, columns, extra)
        return replace(example, inputs={"text": f"{example.inputs['text']} {row.values['tone']}"})


class LearningThePrompt(Reason):
    def encode(self, examples, tokenizer, max_length):
        encoded = super().encode(examples, tokenizer, max_length)
        return [replace(each, label_spans=((1, len(each.input_ids)),)) for each in encoded]


class NeverEnding(Reason):
    def encode(self, examples, tokenizer, max_length):
        encoded = super().encode(examples, tokenizer, max_length)
        return [
            replace(each, input_ids=each.input_ids[:-1], label_spans=((start, end - 1),))
            for each in encoded
            for start, end in each.label_spans
        ]


class AskingOtherwise(Reason):
    def prompt_tokens(self, example, tokenizer, room):
        return super().prompt_tokens(example, tokenizer, room)[:-1]


class Sorting(Tone):
    def encode(self, examples, tokenizer, max_length):
        encoded = super().encode(examples, tokenizer, max_length)
        return sorted(encoded, key=lambda each: len(each.input_ids))


class CuttingTheEnd(Tone):
    def encode(self, examples, tokenizer, max_length):
        encoded = super().encode(examples, tokenizer, 10_000)
        return [replace(each, input_ids=each.input_ids[:max_length]) for each in encoded]


class CuttingTheAnswer(Reason):
    def encode(self, examples, tokenizer, max_length):
        encoded = super().encode(examples, tokenizer, 10_000)
        return [
            replace(each, input_ids=each.input_ids[:max_length], label_spans=((start, min(end, max_length)),))
            for each in encoded
            for start, end in each.label_spans
        ]


class ForgettingOptions(ClassificationOptions):
    lower: bool | None = None


class Forgetting(Tone):
    lower = False
    Options = ForgettingOptions

    def example(self, row, columns, extra=()):
        example = super().example(row, columns, extra)
        return replace(example, inputs={"text": example.inputs["text"].lower()}) if self.lower else example

    def state(self):
        return {name: value for name, value in super().state().items() if name != "lower"}


class ExpectingWords(Reason):
    def score(self, example, prediction):
        first, *others = str(prediction).split()
        return super().score(example, " ".join([first, *others]))


class Unfair(Reason):
    def score(self, example, prediction):
        return super().score(replace(example, references=(example.inputs["text"],)), prediction)


class Bashful(Reason):
    def requests(self, example, context):
        return super().requests(example, "")


class Undefined(Tone):
    head = "undefined"


class ReadingTheLastPlace(Tone):
    head = "last-place"


class Detached(Tone):
    head = "detached"


class KeepingASecret(Tone):
    head = "secret"


class Deaf(Tone):
    def encode(self, examples, tokenizer, max_length):
        return super().encode([replace(each, inputs={"text": "Hm."}) for each in examples], tokenizer, max_length)


class Unwritable(Tone):
    def to_json(self, prediction):
        return {"predicted": {prediction.label}}


class Wordless(Tone):
    def table_row(self, text, prediction):
        return {"probability": prediction.probabilities[prediction.label]}


class Laconic(Tone):
    def line(self, example, prediction):
        return {"label": example.target, **self.to_json(prediction)}


class Unseeded(Tone):
    head = "unseeded"


class AnsweringTooFew(Tone):
    learner = "too-few"


class TooSure(Tone):
    learner = "too-sure"


class Outlandish(Tone):
    learner = "outlandish"


class Whispering(Tone):
    learner = "whispering"


class Restless(Tone):
    learner = "restless"


class LearningAll(Reason):
    learner = "learning-all"


class LearningNothing(Tone):
    learner = "learning-nothing"


class Boundless(Tone):
    learner = "boundless"


class Worthless(Tone):
    learner = "worthless"


class Inconsolable(Tone):
    learner = "inconsolable"


class Whimsical(Tone):
    learner = "whimsical"


def learners() -> list[LearnerSpec]:
    """Learners with a fault each: what a method returns is changed."""

    def kind(name, method, changed, family="ClassificationLearner", module="labels"):
        def load():
            base = getattr(importlib.import_module(f"gpt_tasks.learners.{module}"), family)
            right = getattr(base, method)
            return type("Faulty", (base,), {method: lambda self, *given: changed(right(self, *given), self)})

        return LearnerSpec(name, "A learner with a fault.", load)

    def beginning_with(token):
        def changed(every, learner):
            return [replace(each, sequences=[[token(each), *each.sequences[0][1:]]]) for each in every]

        return changed

    def certain(predictions, learner):
        return [replace(each, probabilities=dict.fromkeys(each.probabilities, 2.0)) for each in predictions]

    def unlearned_if_long(every, learner):
        return [replace(each, labels=-100 if each.windows > 1 else each.labels) for each in every]

    def all_learned(every, learner):
        return [replace(each, token_labels=[-100, *each.sequences[0][1:]]) for each in every]

    return [
        kind("too-few", "decode", lambda predictions, learner: predictions[:-1]),
        kind("too-sure", "decode", certain),
        kind("outlandish", "decode", lambda predictions, learner: [replace(each, label="odd") for each in predictions]),
        kind("whispering", "encode", beginning_with(lambda each: 0 if each.labels is None else int(each.labels))),
        kind("restless", "encode", beginning_with(lambda each: random.randrange(99))),
        kind("learning-all", "encode", all_learned, "TextLearner", "causal"),
        kind("learning-nothing", "encode", unlearned_if_long),
        kind("boundless", "loss", lambda loss, learner: loss * float("inf")),
        kind("worthless", "loss", lambda loss, learner: loss * 0),
        kind("inconsolable", "loss", lambda loss, learner: loss + 100),
        kind("whimsical", "loss", lambda loss, learner: loss * random.SystemRandom().uniform(0.5, 1.5)),
    ]


def heads() -> list[HeadSpec]:
    """Heads with a fault each."""

    def kind(name, read, drawn=lambda hidden, outputs: None):
        def build(hidden_size, outputs):
            from torch import nn

            class Head(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.linear = nn.Linear(hidden_size, outputs)
                    self.drawn = drawn(self.linear, outputs)

                def forward(self, hidden, attention_mask):
                    return read(self, hidden, attention_mask)

            return Head()

        return HeadSpec(name, "A head with a fault.", build)

    def mean(hidden, attention_mask):
        real = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * real).sum(dim=1) / real.sum(dim=1)

    def randomly(linear, outputs):
        import torch

        return torch.randn(outputs)

    def by_the_clock(linear, outputs):
        import numpy
        import torch

        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(numpy.random.default_rng().normal(size=linear.weight.shape)))

    return [
        kind("undefined", lambda head, hidden, mask: head.linear(mean(hidden, mask)) / 0 * 0),
        kind("last-place", lambda head, hidden, mask: head.linear(hidden[:, -1])),
        kind("detached", lambda head, hidden, mask: head.linear(mean(hidden, mask).detach())),
        kind("secret", lambda head, hidden, mask: head.linear(mean(hidden, mask)) + head.drawn, randomly),
        kind("unseeded", lambda head, hidden, mask: head.linear(mean(hidden, mask)), by_the_clock),
    ]


BROKEN: list[tuple[Task, str, str]] = [
    (Calling(), "uses_no_network", "127.0.0.1"),
    (NamingTooMuch(), "names_what_exists", "sparkle"),
    (NamingNobody(), "names_what_exists", "learner 'nobody'"),
    (NamingTheAnswer(), "names_what_exists", "{label}"),
    (Misnamed(), "samples_fit", "mood"),
    (Drawing(), "encoding_is_deterministic", "draw"),
    (Restless(), "encoding_is_deterministic", "draw"),
    (Leaking(), "target_does_not_leak", "train.jsonl:"),
    (Whispering(), "target_does_not_leak", "encode()"),
    (LearningThePrompt(), "prompt_is_not_learned", "Why:"),
    (NeverEnding(), "prompt_is_not_learned", "never stop"),
    (AskingOtherwise(), "prompt_is_not_learned", "prompt_tokens()"),
    (LearningAll(), "prompt_is_not_learned", "none of the prompt's"),
    (CuttingTheEnd(), "target_survives_truncation", "Tone:"),
    (CuttingTheAnswer(), "target_survives_truncation", "to be learned"),
    (LearningNothing(), "target_survives_truncation", "nothing is left to be learned"),
    (Forgetting(), "state_survives_json", "`lower`"),
    (ExpectingWords(), "decoding_survives_anything", "test_broken.py:"),
    (AnsweringTooFew(), "decoding_survives_anything", "3 predictions of 4 examples"),
    (TooSure(), "decoding_survives_anything", "a probability from 0 to 1"),
    (Outlandish(), "decoding_survives_anything", "of which there is a probability"),
    (Unfair(), "gold_answers_score_best", "exact_match"),
    (Bashful(), "zero_shot_works", "`context`"),
    (Undefined(), "loss_is_finite", "nan"),
    (Boundless(), "loss_is_finite", "inf"),
    (ReadingTheLastPlace(), "padding_changes_no_logit", "attention mask"),
    (Sorting(), "padding_changes_no_logit", "next to others"),
    (Detached(), "intended_weights_move", "backbone"),
    (Worthless(), "intended_weights_move", "every gradient of the head is 0"),
    (KeepingASecret(), "saved_model_answers_alike", "parameter"),
    (Unwritable(), "answers_are_written", "JSON"),
    (Wordless(), "answers_are_written", "Return texts"),
    (Laconic(), "answers_are_written", "'text'"),
    (Deaf(), "overfits_four_examples", "texts"),
    (Inconsolable(), "overfits_four_examples", "the loss is"),
    (Unseeded(), "same_seed_same_result", "head.linear.weight"),
    (Whimsical(), "same_seed_same_result", "is trained differently"),
]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    loaded = load_plugins(point for point in metadata.entry_points(group=GROUP) if point.module.startswith("gpt_tasks"))
    for kind in heads():
        loaded.registry.heads.add(kind.name, kind, "heads")
    for learner in learners():
        loaded.registry.learners.add(learner.name, learner, "learners")
    return loaded


def needing(name: str) -> set[str]:
    """The checks that need the one called `name`, be it by another."""
    found = {name}
    for check in CHECKS:
        if found & set(check.needs):
            found.add(check.name)
    return found - {name}


def only_failure(task: Task, name: str, plugins: Plugins) -> str:
    """Check a task that must fail by one check alone, and return what is said of that."""
    results = {result.name: result for result in check_task(task, plugins=plugins)}
    failed = [result for result in results.values() if result.status == "FAILED"]
    assert [result.name for result in failed] == [name], failed
    not_run = {result.name for result in results.values() if result.status == "not run"}
    # What cannot be read cannot be used either.
    assert not_run - {"uses_no_network"} == {each for each in needing(name) if results[each].status != "skipped"}
    return failed[0].message


@pytest.mark.parametrize(("task", "name", "told"), BROKEN, ids=[type(task).__name__ for task, _, _ in BROKEN])
def test_a_broken_task_or_learner_fails_by_one_check_alone(task, name, told, plugins) -> None:
    assert told in only_failure(task, name, plugins)


@pytest.fixture
def importing_torch(site) -> Task:
    """A task in a module that imports torch."""
    source = (
        "import torch\nfrom gpt_tasks import ClassificationTask\nclass Heavy(ClassificationTask):\n    name = 'heavy'"
    )
    task: Task = importlib.import_module(site.install("heavy", source)).Heavy()
    return task


def test_a_module_that_imports_torch_is_named(importing_torch, plugins) -> None:
    told = only_failure(importing_torch, "imports_no_torch", plugins)
    assert "torch" in told
    assert "function" in told


def test_there_is_a_broken_task_for_every_check() -> None:
    assert {name for _, name, _ in BROKEN} | {"imports_no_torch"} == {check.name for check in CHECKS}


@pytest.mark.parametrize("task", [Tone(), Reason()], ids=lambda task: task.name)
def test_the_tasks_that_were_broken_are_right_by_themselves(task, plugins) -> None:
    odd = [result for result in check_task(task, plugins=plugins) if result.status not in ("passed", "skipped")]
    assert odd == []
