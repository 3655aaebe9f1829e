"""What the cases start from: a small model, a run, an unfinished one, data, a suite, a configuration."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import yaml

LABELS = ("negative", "positive")
ROWS = [
    {"text": f"The {thing} was {word} and I would {again} come back.", "label": LABELS[word in ("fine", "lovely")]}
    for thing in ("soup", "room", "film", "train", "concert", "tea")
    for word, again in (("cold", "not"), ("lovely", "gladly"), ("dull", "never"), ("fine", "surely"))
]
CHOICES = [
    {"question": f"How was the {thing}?", "choices": ["cold", "lovely", "dull"], "answer": place % 3, "thing": thing}
    for place, thing in enumerate(("soup", "room", "film", "train", "concert", "tea"))
]
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
SUITE = {
    "name": "small",
    "tasks": [
        {"task": "sentiment", "source": "data.jsonl", "prompt": "{text}\nIt is", "metrics": ["accuracy"]},
    ],
}
CONFIG = {"data": "data.jsonl", "backbone": "model", "epochs": 1, "batch_tokens": 512, "method": "full", "seed": 3}


def make_world(folder: Path) -> Path:
    """Make the world in an empty folder; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "data.jsonl").write_text(lines, encoding="utf-8")
    asked = "".join(json.dumps(row) + "\n" for row in CHOICES)
    (folder / "choices.jsonl").write_text(asked, encoding="utf-8")
    (folder / "corpus.txt").write_text("".join(row["text"] + "\n" for row in ROWS), encoding="utf-8")
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    make_model(folder / "model")
    _finetuned(folder, "run")
    shutil.copytree(folder / "run", folder / "run2")
    # A marker is written last, and says that its checkpoint is whole.
    _finetuned(folder, "stopped", "--checkpoint-steps", "1", until=lambda: _checkpoints(folder / "stopped") >= 2)
    return folder


def _checkpoints(folder: Path) -> int:
    return len(list(folder.rglob("COMPLETE")))


def make_model(folder: Path) -> None:
    """Save a GPT-2 of two layers and 16 dimensions, with random weights, its tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=[end], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([str(row["text"]) for row in ROWS], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, bos_token=end, pad_token=end, chat_template=TEMPLATE
    )
    fast.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(fast), bos_token_id=0, eos_token_id=0, **shape))
    model.save_pretrained(folder)


def _finetuned(folder: Path, output: str, *flags: str, until: Callable[[], bool] = lambda: False) -> None:
    """Train in a forked process, which has what this one has imported; kill it once `until` is true."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.chdir(folder)
            for number in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            from gpt_tasks.cli.main import run

            epochs = ("--epochs", "30") if flags else ()
            code = run(["finetune", "sentiment", "--config", "config.yaml", "--output", output, *epochs, *flags])
        finally:
            os._exit(code)
    ends = time.monotonic() + 300
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if until() or time.monotonic() > ends:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.02)
