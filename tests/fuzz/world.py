"""What the cases start from: a small model, a run, an unfinished one, data, a suite, a configuration."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

LABELS = ("negative", "positive")
ROWS = [
    {"text": f"The {thing} was {word} and I would {again} come back.", "label": LABELS[word in ("fine", "lovely")]}
    for thing in ("soup", "room", "film", "train", "concert", "tea")
    for word, again in (("cold", "not"), ("lovely", "gladly"), ("dull", "never"), ("fine", "surely"))
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
    (folder / "corpus.txt").write_text("".join(row["text"] + "\n" for row in ROWS), encoding="utf-8")
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    make_model(folder / "model")
    _gpt_tasks(folder, "finetune", "sentiment", "--config", "config.yaml", "--output", "run").wait()
    shutil.copytree(folder / "run", folder / "run2")
    stopped = _gpt_tasks(
        folder, "finetune", "sentiment", "--config", "config.yaml", "--epochs", "30", "--output", "stopped"
    )
    ends = time.monotonic() + 300
    # A marker is written last, and says that its checkpoint is whole.
    while len(list((folder / "stopped").rglob("COMPLETE"))) < 2 and time.monotonic() < ends:
        if stopped.poll() is not None:
            break
        time.sleep(0.05)
    stopped.send_signal(signal.SIGKILL)
    stopped.wait()
    return folder


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


def _gpt_tasks(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "gpt_tasks", *arguments], cwd=folder, env=environment, **quiet)
