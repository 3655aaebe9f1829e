"""What the fuzzer has found, as cases of their own, smaller by hand: each ended badly once."""

from __future__ import annotations

from .child import OUTPUT, Case

_MODEL = ("model", "data.jsonl", "suite.yaml")
_SCORE = ("score", "model", "--suite", "suite.yaml", "--chat-template", "--output", OUTPUT)
_CHAT = ("chat", "model", "--max-new-tokens", "2")


def _template(text: str, *, scored: bool = False) -> Case:
    files = {"model/chat_template.jinja": text.encode()}
    return Case(_SCORE if scored else _CHAT, files, _MODEL, ("template",), b"" if scored else b"hello\n")


KEPT: dict[str, Case] = {
    "a template that writes a gigabyte": _template("{{ 'a' | center(10**9) }}"),
    "a template that repeats a turn": _template("{{ messages[0]['content'] * 10**9 }}"),
    "a template that includes another": _template("{% include 'x' %}"),
    "a template with a range of a billion": _template("{% for x in range(10**9) %}{% endfor %}", scored=True),
    "a template that looks into Python": _template("{{ ''.__class__.__mro__ }}", scored=True),
    "a template that writes nothing": _template("\n"),
    "too few rows": Case(
        ("finetune", "sentiment", "--config", "config.yaml", "--data", "few.csv", "--output", OUTPUT),
        {"few.csv": b"text,label\ngood,positive\nbad,negative\nworse,negative\nbetter,positive\n"},
        ("model", "config.yaml"),
        ("few.csv",),
    ),
    "too many shots": Case(
        ("score", "model", "--suite", "suite.yaml", "--output", OUTPUT),
        {"suite.yaml": b"name: small\ntasks:\n- {task: multiple-choice, source: choices.jsonl, shots: 22}\n"},
        ("model", "choices.jsonl"),
        ("choices.jsonl",),
    ),
    "a word for a label that there is not": Case(
        ("score", "model", "--suite", "suite.yaml", "--output", OUTPUT),
        {"suite.yaml": b"name: s\ntasks:\n- {task: sentiment, source: data.jsonl, label_words: {good: positive}}\n"},
        ("model", "data.jsonl"),
        ("suite.yaml",),
    ),
    "an answer without room behind texts that are scored": Case(
        ("score", "model", "--suite", "suite.yaml", "--output", OUTPUT),
        {
            "suite.yaml": b"name: s\ntasks:\n- {task: language-modeling, source: data.jsonl}\n"
            b"- {task: text-to-text, source: choices.jsonl, fields: {source: question, target: answer}}\n"
        },
        ("model", "data.jsonl", "choices.jsonl"),
        ("tokens to generate",),
    ),
    "a method that there is not": Case(
        ("finetune", "sentiment", "--config", "config.yaml", "--data", "data.jsonl", "--output", OUTPUT),
        {"config.yaml": "backbone: model\nmethod: s\u00d1\n".encode()},
        ("model", "data.jsonl"),
        ("config.yaml",),
    ),
}
