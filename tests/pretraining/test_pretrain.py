"""From raw text to a folder that transformers opens: what is trained on, how it is measured, what bad input gets."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from gpt_tasks.backbone.shapes import Shape
from gpt_tasks.errors import DataError, GptTasksError, ModelError, UsageError
from gpt_tasks.heads.lm import linear_cross_entropy
from gpt_tasks.pretraining.bits_per_byte import bits_per_byte
from gpt_tasks.pretraining.config import begin
from gpt_tasks.pretraining.corpus import ValidationText
from gpt_tasks.pretraining.loop import PretrainTrainer
from gpt_tasks.pretraining.packed import build_gpt2
from gpt_tasks.pretraining.pretrain import PretrainConfig, pretrain
from gpt_tasks.pretraining.windows import collate_windows

PEOPLE = ["the miller", "my aunt", "an old sailor", "the schoolmaster", "nobody", "a girl in red"]
DEEDS = ["mended", "sold", "forgot", "painted", "carried home", "laughed at", "dreamt of"]
THINGS = ["a boat", "the clock", "three pears", "his own shadow", "a letter from Wien", "the green door"]
SMALL: dict[str, Any] = {
    "layers": 2, "heads": 2, "width": 16, "vocab_size": 320, "context": 32, "batch_tokens": 256, "tokens": 3072,
    "device": "cpu", "precision": "float32", "checkpoint_steps": 4,
}  # fmt: skip


def write_story(file: Path, documents: int, seed: int) -> Path:
    draw = random.Random(seed)
    stories = [
        "\n".join(
            f"{draw.choice(PEOPLE)} {draw.choice(DEEDS)} {draw.choice(THINGS)}." for _ in range(draw.randint(1, 30))
        )
        for _ in range(documents)
    ]
    file.write_text("\n<|endoftext|>\n".join(stories), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_story(tmp_path_factory.mktemp("text") / "stories.txt", documents=60, seed=1)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_story(tmp_path_factory.mktemp("text") / "held_out.txt", documents=4, seed=2)


@pytest.fixture(scope="module")
def finished(text: Path, held_out: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A whole pretraining: its folder, what it returned, and what it said."""
    folder = tmp_path_factory.mktemp("finished") / "model"
    said: list[str] = []
    config = PretrainConfig(text=[text], validation=held_out, output=folder, prompt=["the miller"], **SMALL)
    return folder, pretrain(config, said.append), "\n".join(said)


def test_the_folder_opens_with_transformers_alone(finished: tuple[Path, dict[str, Any], str]) -> None:
    folder = finished[0]
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model) is GPT2LMHeadModel
    assert model.dtype == torch.bfloat16
    assert model.config.use_cache
    assert len(tokenizer) == model.config.vocab_size == 320
    assert tokenizer.model_max_length == model.config.n_positions == 32
    assert tokenizer.eos_token == tokenizer.bos_token == tokenizer.pad_token == "<|endoftext|>"
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    ids = tokenizer("the miller", return_tensors="pt")
    assert tokenizer.decode(model.generate(**ids, max_new_tokens=3, do_sample=False)[0]).startswith("the miller")


def test_what_was_measured_is_what_was_saved(finished: tuple[Path, dict[str, Any], str], held_out: Path) -> None:
    folder, figures, said = finished
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    validation = ValidationText.read([held_out], AutoTokenizer.from_pretrained(folder))
    assert figures["validation"]["bits_per_byte"] == pytest.approx(bits_per_byte(model, validation, stride=16))
    assert figures["validation"]["bytes"] == sum(
        len(story.rstrip("\n").encode()) for story in held_out.read_text().split("<|endoftext|>\n")
    )
    assert f"{figures['validation']['bits_per_byte']:.3f} bits per byte" in (folder / "README.md").read_text()
    assert figures["training"]["tokens_seen"] == 3072
    history = json.loads((folder / "training.json").read_text())["history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.1
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "  | the miller" in said


def test_documents_of_a_window_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    packed = build_gpt2(Shape(layers=2, heads=2, width=16, vocab_size=300, context=24), end_of_text=0).eval()
    plain = GPT2LMHeadModel(packed.config).eval()
    plain.load_state_dict(packed.state_dict())
    first, second = torch.randint(1, 300, (2, 9)), torch.randint(1, 300, (14,))
    windows = [torch.cat([torch.tensor([0]), one, torch.tensor([0]), second]).numpy() for one in first]
    batch = collate_windows(windows, end_of_text=0)
    labels = batch.pop("labels")
    alone = torch.cat([torch.tensor([0]), second[:-1]])[None]
    assert labels[0].tolist() == windows[0][1:].tolist()
    for model in (packed, plain):
        with torch.no_grad():
            logits = model(**batch).logits
            assert not torch.allclose(logits[0, 1:10], logits[1, 1:10])
            assert torch.equal(logits[0, 10:], logits[1, 10:])
            torch.testing.assert_close(logits[0, 10:], model(input_ids=alone).logits[0], atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(packed(**batch).logits, plain(**batch).logits, atol=1e-5, rtol=1e-4)
        loss = functional.cross_entropy(plain(**batch).logits.flatten(0, 1), labels.flatten())
        torch.testing.assert_close(packed(**batch, labels=labels).loss, loss)


def test_the_loss_without_logits_has_the_gradients_of_the_one_with_them() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(2500, 8, requires_grad=True), torch.randn(40, 8, requires_grad=True)
    labels = torch.randint(40, (2500,))
    wanted = torch.autograd.grad(3 * functional.cross_entropy(hidden @ weight.T, labels), (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, labels, torch.float32)
    found = torch.autograd.grad(3 * loss, (hidden, weight))
    torch.testing.assert_close(loss, functional.cross_entropy(hidden @ weight.T, labels))
    for gradient, direct in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, direct)


@pytest.mark.parametrize("stride", [32, 16, 1])
def test_bits_per_byte_are_those_of_each_token_alone(
    stride: int, finished: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(finished[0], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(finished[0])
    stories = ["an old sailor sold a boat. " * 12, "ä", "my aunt forgot the clock."]
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join(stories), encoding="utf-8")
    stream = [0]
    for story in stories:
        stream += [*tokenizer.encode(story), 0]
    nats = 0.0
    for place in range(1, len(stream)):
        # The window that scores this token begins at a multiple of the stride, as late as it can for all but the first.
        start = max(0, math.ceil((place - 32) / stride) * stride)
        document = max(index for index in range(place) if stream[index] == 0)
        context = torch.tensor([stream[max(start, document) : place]])
        with torch.no_grad():
            nats -= float(model(context).logits[0, -1].log_softmax(-1)[stream[place]])
    text = ValidationText.read([tmp_path / "text.txt"], tokenizer)
    assert text.tokens.tolist() == stream
    assert text.bytes == sum(len(story.encode()) for story in stories)
    direct = nats / math.log(2) / text.bytes
    assert bits_per_byte(model, text, stride=stride) == pytest.approx(direct, rel=1e-5)
    parts: list[float] = []
    for rank in range(3):
        bits_per_byte(model, text, stride=stride, share=(rank, 3), total=lambda nats: parts.append(nats) or nats)
    assert sum(parts) == pytest.approx(nats, rel=1e-5)


KILLED = """
import os, signal, sys, torch
from gpt_tasks.pretraining.pretrain import PretrainConfig, pretrain

torch.set_num_threads(1)

def kill_at_75(line):
    if line.startswith("update 75/"):
        os.kill(os.getpid(), signal.SIGKILL)

pretrain(PretrainConfig.model_validate_json(sys.argv[1]), kill_at_75)
"""


def test_a_killed_pretraining_continues_to_the_same_weights(command_server: Any, text: Path, tmp_path: Path) -> None:
    whole = PretrainConfig(text=[text], output=tmp_path / "whole", accumulate=2, **(SMALL | {"tokens": 24_576}))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures = pretrain(whole, lambda line: None)
    assert figures["training"]["epochs"] > 1.2  # the kill comes in the second epoch
    killed = whole.model_copy(update={"output": tmp_path / "killed"})
    ended = command_server.run(killed.model_dump_json(), code=KILLED)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    pretrain(PretrainConfig(text=[text], output=tmp_path / "killed", resume=True), lambda line: None)
    torch.set_num_threads(threads)
    for name in ("model.safetensors", "checkpoints/checkpoint-96/model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_resume_with_a_budget_continues_from_the_checkpoint(text: Path, tmp_path: Path) -> None:
    pretrain(PretrainConfig(text=[text], output=tmp_path / "model", **SMALL), lambda line: None)
    said: list[str] = []
    more = PretrainConfig(text=[text], output=tmp_path / "model", resume=True, tokens=512)
    assert pretrain(more, said.append)["training"]["updates"] == 14
    assert any(line.startswith("update 13/14") for line in said)
    said.clear()
    assert (
        pretrain(PretrainConfig(text=[text], output=tmp_path / "model", resume=True), said.append)["training"][
            "updates"
        ]
        == 14
    )
    assert not any(line.startswith("update") for line in said)
    with pytest.raises(UsageError, match="--batch-tokens was 256"):
        pretrain(PretrainConfig(text=[text], output=tmp_path / "model", resume=True, batch_tokens=512))


@pytest.mark.parametrize(
    ("begun", "again"),
    [({"epochs": 2}, {"epochs": 2}), ({}, {"epochs": 1}), ({"tokens": 2048}, {"tokens": 2048}), ({"epochs": 2}, {})],
)
def test_a_budget_given_again_changes_nothing(
    begun: dict[str, Any], again: dict[str, Any], text: Path, tmp_path: Path
) -> None:
    settings = {name: value for name, value in SMALL.items() if name != "tokens"}
    first = pretrain(PretrainConfig(text=[text], output=tmp_path / "model", **settings, **begun), lambda line: None)
    resumed = PretrainConfig(text=[text], output=tmp_path / "model", resume=True, **again)
    assert pretrain(resumed, lambda line: None)["training"]["updates"] == first["training"]["updates"]


def test_another_budget_counts_from_the_checkpoint_once(text: Path, tmp_path: Path) -> None:
    pretrain(PretrainConfig(text=[text], output=tmp_path / "model", **SMALL), lambda line: None)
    one = pretrain(PretrainConfig(text=[text], output=tmp_path / "one", **{**SMALL, "tokens": None, "epochs": 1}))
    for _ in range(2):
        more = PretrainConfig(text=[text], output=tmp_path / "model", resume=True, epochs=1)
        updates = pretrain(more, lambda line: None)["training"]["updates"]
        assert updates == 12 + one["training"]["updates"]


def test_a_loss_that_is_not_finite_ends_the_training_and_leaves_what_can_be_resumed(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PretrainConfig(text=[text], output=tmp_path / "model", **SMALL)
    plain = PretrainTrainer.compute_loss

    def diverging(self: PretrainTrainer, model: Any, inputs: Any, *rest: Any, **named: Any) -> torch.Tensor:
        if self.state.global_step == 6:
            with torch.no_grad():
                model.transformer.wpe.weight.fill_(math.nan)
        return plain(self, model, inputs, *rest, **named)

    monkeypatch.setattr(PretrainTrainer, "compute_loss", diverging)
    with pytest.raises(ModelError, match="The loss is nan in update 7"):
        pretrain(config, lambda line: None)
    monkeypatch.undo()
    assert pretrain(config.model_copy(update={"resume": True}), lambda line: None)["training"]["updates"] == 12


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(text: Path, tmp_path: Path) -> None:
    pretrain(PretrainConfig(text=[text], output=tmp_path / "model", **SMALL), lambda line: None)
    whole = (tmp_path / "model" / "model.safetensors").read_bytes()
    os.truncate(tmp_path / "model" / "checkpoints" / "checkpoint-12" / "optimizer.pt", 1000)
    said: list[str] = []
    pretrain(PretrainConfig(text=[text], output=tmp_path / "model", resume=True), said.append)
    assert any("checkpoint-12/optimizer.pt is damaged" in line for line in said)
    assert any(line.startswith("update 9/12") for line in said)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == whole


def test_two_processes_train_as_one_that_accumulates(
    command_server: Any, text: Path, held_out: Path, tmp_path: Path
) -> None:
    alone = PretrainConfig(text=[text], validation=held_out, output=tmp_path / "alone", accumulate=2, **SMALL)
    pretrain(alone, lambda line: None)
    two = alone.model_copy(update={"output": tmp_path / "two", "accumulate": 1})
    for ended in command_server.run_on_two(two.model_dump_json(), code=KILLED):  # of fewer updates than 75
        assert ended.returncode == 0, ended.stderr
    curves = {}
    for folder in (alone.output, two.output):
        history = json.loads((folder / "training.json").read_text())["history"]
        curves[folder.name] = [entry.get("loss", entry.get("eval_bits_per_byte")) for entry in history]
        assert sum("loss" in entry for entry in history) == 12
    assert curves["two"][:-1] == pytest.approx(curves["alone"][:-1], rel=1e-3)
    assert curves["two"] != [curves["two"][0]] * len(curves["two"])


BAD_TEXTS: dict[str, tuple[bytes | None, str, type[GptTasksError]]] = {
    "missing.txt": (None, "missing.txt: no such text", DataError),
    "empty.txt": (b"", "empty.txt: no text", DataError),
    "blank.txt": (b"\n \n<|endoftext|>\n\n", "blank.txt: no text", DataError),
    "picture.txt": (b"\x89PNG\r\n\x1a\n\x00\x00" + bytes(range(256)), "picture.txt: ", DataError),
    "zeros.txt": (b"text\0text" * 99, "zeros.txt: this is not a text", DataError),
    "cp1252.txt": ("für Elise ".encode("cp1252") * 99, "cp1252.txt: not UTF-8", DataError),
    "rows.jsonl": (b'{"text": "one"}\n{"text": "two"}\n{"text": "thr\n', "rows.jsonl:3: ", DataError),
    "numbers.jsonl": (b'{"text": "one"}\n{"text": 2}\n', "numbers.jsonl:2: 'text' is 2", DataError),
    "broken.txt.gz": (b"\x1f\x8b\x08\x00 and no more", "broken.txt.gz: cannot be decompressed", DataError),
    "plain.txt.xz": (b"not compressed at all", "plain.txt.xz: cannot be decompressed", DataError),
    "poor.txt": (b"a b c d e f g " * 900, "fills only", DataError),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_text_that_cannot_be_used_is_named(name: str, tmp_path: Path) -> None:
    content, message, kind = BAD_TEXTS[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind) as raised:
        pretrain(PretrainConfig(text=[tmp_path / name], output=tmp_path / "model", **SMALL), lambda line: None)
    assert message in raised.value.message
    assert "\n" not in raised.value.message
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 18, "heads": 4}, "--width 18 is not divisible by --heads 4"),
        ({"preset": "huge"}, "--preset huge"),
        ({"batch_tokens": 31}, "--batch-tokens 31"),
        ({"minutes": 1.0}, "--minutes 1: --epochs, --tokens and --minutes are three budgets"),
        ({"optimizer": "adamw", "muon_learning_rate": 0.1}, "--muon-learning-rate is for --optimizer muon: 0.1"),
        ({"evaluate_steps": 5}, "--evaluate-steps is for --validation: 5"),
        ({"validation": Path("no/such.txt")}, "no/such.txt: no such text"),
        ({"batch_tokens": 1 << 20}, "too short"),
        ({"resume": True}, "holds no pretraining"),
        ({"layers": 100_000_000}, "--layers 100000000, "),
        ({"vocab_size": 99_999_999_999}, "--vocab-size 99999999999, "),
        ({"width": 1_000_000_000, "heads": 1}, "this machine has"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    settings: dict[str, Any], message: str, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(GptTasksError) as raised:
        pretrain(PretrainConfig(text=[text], output=tmp_path / "model", **(SMALL | settings)), lambda line: None)
    assert message in raised.value.message
    assert list((tmp_path / "model").iterdir()) == []


def test_a_validation_text_out_of_the_training_text_is_reported(text: Path, tmp_path: Path) -> None:
    said: list[str] = []
    figures = pretrain(PretrainConfig(text=[text], validation=text, output=tmp_path / "model", **SMALL), said.append)
    assert f"Warning: 100.0% of {text} is in the training text too" in "\n".join(said)
    assert figures["validation"]["overlap"] == 1
    assert "100.0% of its stretches" in (tmp_path / "model" / "README.md").read_text()


def test_a_separate_validation_text_gets_no_warning(text: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(" ".join(f"word{number} ends" for number in range(500)))
    said: list[str] = []
    config = PretrainConfig(text=[text], validation=tmp_path / "other.txt", output=tmp_path / "model", **SMALL)
    assert pretrain(config, said.append)["validation"]["overlap"] == 0
    assert "Warning" not in "\n".join(said)


def test_energy_is_measured_where_codecarbon_is(
    finished: tuple[Path, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch, text: Path, tmp_path: Path
) -> None:
    pytest.importorskip("codecarbon")
    folder, figures, _ = finished
    assert 0 < figures["training"]["kwh"] < 0.1
    assert "| energy |" in (folder / "README.md").read_text()
    told = [entry["kwh"] for entry in json.loads((folder / "training.json").read_text())["history"]]
    assert told == sorted(told)
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    without = pretrain(PretrainConfig(text=[text], output=tmp_path / "model", **SMALL), lambda line: None)
    assert without["training"]["kwh"] is None
    assert "| energy |" not in (tmp_path / "model" / "README.md").read_text()


def test_a_folder_in_use_is_left_alone(text: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="is not empty"):
        pretrain(PretrainConfig(text=[text], output=tmp_path, **SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_two_processes_do_not_train_in_one_folder(text: Path, tmp_path: Path) -> None:
    begun = PretrainConfig(text=[text], output=tmp_path / "model", **SMALL)
    again = PretrainConfig(text=[text], output=tmp_path / "model", resume=True)
    refused: list[str] = []

    def interfere(line: str) -> None:
        if line.startswith("update 9/"):
            with pytest.raises(UsageError, match="Another process works in") as raised:
                pretrain(again, lambda line: None)
            refused.append(raised.value.message)

    assert pretrain(begun, interfere)["training"]["updates"] == 12
    assert len(refused) == 1


def test_the_card_says_what_is_known_of_the_text(text: Path, tmp_path: Path) -> None:
    (tmp_path / "about.md").write_text("Six people and six things, written for a test.")
    config = PretrainConfig(text=[text], output=tmp_path / "model", about_text=tmp_path / "about.md", **SMALL)
    pretrain(config, lambda line: None)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Six people and six things, written for a test." in card
    assert str(tmp_path) not in card


def test_a_budget_in_minutes_is_fixed_as_updates(text: Path, tmp_path: Path) -> None:
    config = PretrainConfig(text=[text], output=tmp_path / "model", **(SMALL | {"tokens": None, "minutes": 0.005}))
    updates = pretrain(config, lambda line: None)["training"]["updates"]
    assert updates == json.loads((tmp_path / "model" / "pretrain.json").read_text())["steps"]


def test_a_resume_from_another_folder_finds_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    output = tmp_path / "out"
    monkeypatch.chdir(tmp_path / "here")
    given = {"text": [Path("books"), Path("more/*.txt")], "validation": Path("held.txt")}
    began, _ = begin(PretrainConfig(**given, output=output))
    assert (began.text, began.validation) == (given["text"], given["validation"])
    assert begin(PretrainConfig(**given, output=output, resume=True))[0].text == given["text"]
    monkeypatch.chdir(tmp_path / "there")
    here = tmp_path / "here"
    moved = {"text": [Path("../here/books"), here / "more/*.txt"], "validation": Path("../here/held.txt")}
    kept, _ = begin(PretrainConfig(**moved, output=output, resume=True))
    assert kept.text == [here / "books", here / "more/*.txt"]
    assert kept.validation == here / "held.txt"
    with pytest.raises(UsageError, match="--resume: --text was"):
        begin(PretrainConfig(**given, output=output, resume=True))
