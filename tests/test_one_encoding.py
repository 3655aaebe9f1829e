"""Texts become tokens in one place, `tasks/encoding.py`: nowhere else is a tokenizer called."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOME = ROOT / "gpt_tasks" / "tasks" / "encoding.py"
MODULES = sorted(
    path
    for folder in ("gpt_tasks", "plugins", "examples/plugins")
    for path in (ROOT / folder).rglob("*.py")
    if path != HOME and "tests" not in path.parts[len(ROOT.parts) :]
)
ENCODING = {"encode", "encode_plus", "batch_encode_plus", "encode_batch", "encode_batch_fast", "tokenize"}


def calls(source: str) -> list[int]:
    """The lines on which a tokenizer is called."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        owner, _, name = called.rpartition(".")
        renders = any(each.arg == "tokenize" and ast.unparse(each.value) == "False" for each in node.keywords)
        if (
            name == "tokenizer"
            or (name in ENCODING and owner.endswith("tokenizer"))
            or (name == "apply_chat_template" and "tokenizer" in owner and not renders)
        ):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    "line",
    [
        'tokenizer("a")["input_ids"]',
        "self.backbone.tokenizer(text, return_offsets_mapping=True)",
        "self.tokenizer.encode(text)",
        "tokenizer.backend_tokenizer.encode_batch(texts)",
        "tokenizer.apply_chat_template(turns)",
    ],
)
def test_calls_are_found(line: str) -> None:
    assert calls(line) == [1]


@pytest.mark.parametrize("line", ["text.encode()", "encode_text(tokenizer, text)", "tokenizer.decode(ids)"])
def test_other_calls_are_not(line: str) -> None:
    assert not calls(line)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_tokenizer_is_called_elsewhere(path: Path) -> None:
    assert not calls(path.read_text(encoding="utf-8")), "take encode_text or one of its neighbours in tasks/encoding.py"
