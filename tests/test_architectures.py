"""docs/architectures.md: which architectures of transformers work, in which ways, found out with small random models.

`python tests/test_architectures.py` tries all of them, in about six minutes, and writes the page anew. The suite tries
`IN_SUITE`, and that the page tells of all.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt_tasks import finetune, load
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.generation.generator import open_writer
from gpt_tasks.scoring.engine import PlainEngine, TrieEngine
from gpt_tasks.scoring.requests import TokenizedRequest
from gpt_tasks.scoring.scorer import open_scorer
from gpt_tasks.testing.backbone import write_backbone

PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
IN_SUITE = ("qwen3", "gemma2", "gpt_neox")
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
HEADS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}
NEO = HEADS | {"num_layers": 2, "num_heads": 4, "window_size": 16, "attention_types": [[["global", "local"], 1]]}
GATED = HEADS | {"intermediate_size": 64}
GROUPED = GATED | {"num_key_value_heads": 2}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
# What is particular about each, and its shape.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("learned positions, tied embeddings", GPT),
    "openai-gpt": ("norms behind the layers", GPT),
    "gpt_neo": ("local attention", NEO),
    "gptj": ("parallel blocks, rotary positions in part", GPT | {"rotary_dim": 4}),
    "gpt_neox": ("parallel blocks (Pythia)", GATED),
    "opt": ("learned positions with an offset", HEADS | {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "bloom": ("ALiBi", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon": ("grouped queries, parallel blocks", HEADS | {"num_kv_heads": 2, "new_decoder_architecture": True}),
    "llama": (
        "grouped queries, scaled rotary positions",
        GROUPED | {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 32}},
    ),
    "mistral": ("sliding windows", GROUPED | {"sliding_window": 16}),
    "qwen2": ("biases in the attention", GROUPED),
    "qwen3": ("norms of queries and keys", GROUPED | {"head_dim": 16}),
    "gemma": ("scaled embeddings", GROUPED | {"head_dim": 16}),
    "gemma2": ("soft-capped logits, sliding windows", GROUPED | {"head_dim": 16, "sliding_window": 16}),
    "gemma3_text": ("two kinds of rotary positions", GROUPED | {"head_dim": 16, "sliding_window": 16}),
    "phi": ("parallel blocks, rotary positions in part", GROUPED),
    "phi3": ("one matrix for queries, keys and values", GROUPED),
    "stablelm": ("rotary positions in part", GROUPED),
    "starcoder2": ("biases, no gate", GROUPED),
    "smollm3": ("layers without positions", GROUPED),
    "olmo2": ("norms behind the layers, of queries and keys", GROUPED),
    "cohere": ("parallel blocks, scaled logits", GROUPED),
    "granite": ("scaled residuals", GROUPED),
    "nemotron": ("squared activations", GROUPED),
    "glm": ("rotary positions in part", GROUPED | {"head_dim": 8}),
    "modernbert-decoder": ("local attention (Ettin)", GATED | {"local_attention": 16}),
    "mamba": ("a state, no attention", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}),
    "mixtral": ("a mixture of experts", GROUPED | {"num_local_experts": 4}),
    "qwen2_moe": ("a mixture with a shared expert", GROUPED | {"num_experts": 4, "moe_intermediate_size": 32}),
    "olmoe": ("a mixture, norms of queries and keys", GROUPED | {"num_experts": 4, "num_experts_per_tok": 2}),
}
WORDS = ("the", "soup", "was", "cold", "and", "a", "warm", "generous", "film", "nothing", "about", "price")
ROWS = [
    {"text": " ".join(random.Random(place).choices(WORDS, k=3 + place % 38)), "label": ("bad", "good")[place % 2]}
    for place in range(60)
]
TEXTS = [row["text"] for row in ROWS[:12]]
PROMPTS = ("the soup was cold and", "a warm generous", "nothing about this hotel was worth the price at all, I say")
TITLE = """# Architectures

Any causal language model that transformers has can be a backbone. For each of these a model of two layers with random
weights is made, and tried on a CPU in float32 (`python tests/test_architectures.py`):

- `full`, `lora`, `head`: it is fine-tuned by this method; a text's probabilities are the same alone and in a batch (to
  1e-4), and what was saved answers as what was trained (to 1e-5).
- `score`: log-likelihoods along a tree of shared prefixes are those of each text by itself, to 1e-3. "plain": the model
  cannot compute along a tree (its attention is local, capped or none), which is found out when it is opened, and each
  text is computed by itself.
- `generate`: 20 tokens, greedy, with the cache, for three prompts in one batch, are those of transformers' `generate`.
"""


def build(kind: str, folder: Path) -> Path:
    """Write a model of random weights into a folder, with the tokenizer of the conformance kit."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    write_backbone(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **ends, **SHAPES[kind][1])
    model = AutoModelForCausalLM.from_config(config)
    # Larger than a fresh model's, so that a wrong position or a leak of padding shows.
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def trained(folder: Path, method: str, output: Path) -> str:
    """Fine-tune a model; compare its answers alone, in a batch, and after it was opened again."""
    epochs = {} if method == "head" else {"epochs": 1}
    settings = {"backbone": str(folder), "method": method, "precision": "float32", "seed": 0, **epochs}
    run = finetune("classification", data=ROWS, output=output, **settings)
    again = load(output)
    together = again.predict(TEXTS)
    assert _apart(together, run.predict(TEXTS)) < 1e-5
    assert _apart(together, [again.predict(text) for text in TEXTS]) < 1e-4
    return "yes"


def scored(folder: Path) -> str:
    """Compare log-likelihoods along a tree with those of each text by itself; return which way the model allows."""
    _, scorer = open_scorer(str(folder))
    draw = random.Random(1)
    shared = [draw.randrange(384) for _ in range(30)]
    beginnings = [shared[: draw.randrange(5, 30)] for _ in range(12)]
    paths = [(*start, *(draw.randrange(384) for _ in range(draw.randrange(1, 20)))) for start in beginnings]
    requests = [TokenizedRequest(path, (draw.randrange(384), draw.randrange(384))) for path in paths]
    engine = scorer._engine(50)
    plain = dict(PlainEngine(scorer._in_precision()).score(requests))
    for place, answer in engine.score(requests):
        assert plain[place].value == pytest.approx(answer.value, abs=1e-3)
    return "yes" if isinstance(engine, TrieEngine) else "plain"


def written(folder: Path) -> str:
    """Compare what is written with the cache with what transformers' `generate` writes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    writer = open_writer(str(folder), precision="float32")
    for prompt, ours in zip(PROMPTS, writer.write(PROMPTS, Decoding(max_new_tokens=20, temperature=0)), strict=True):
        ids = tokenizer(prompt, return_tensors="pt")
        said = model.generate(**ids, max_new_tokens=20, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        assert ours[0].text == tokenizer.decode(said[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    return "yes"


COLUMNS: dict[str, Callable[[Path, Path], str]] = {
    "full": lambda folder, output: trained(folder, "full", output),
    "lora": lambda folder, output: trained(folder, "lora", output),
    "head": lambda folder, output: trained(folder, "head", output),
    "score": lambda folder, output: scored(folder),
    "generate": lambda folder, output: written(folder),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("kind", IN_SUITE)
def test_an_architecture_does_what_the_page_says(kind: str, column: str, tmp_path: Path) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    assert COLUMNS[column](build(kind, folder), tmp_path / "run") == cells()[kind][list(COLUMNS).index(column)]


def test_the_page_tells_of_every_architecture() -> None:
    assert PAGE.read_text(encoding="utf-8").startswith(TITLE)
    assert list(cells()) == list(SHAPES)
    assert {cell for row in cells().values() for cell in row} <= {"yes", "plain"}


def cells() -> dict[str, list[str]]:
    """Return the page's cells by architecture, without what is particular about it."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[2:] for row in rows}


def page() -> str:
    """Try everything, and return the page."""
    header = ["architecture", "with", *COLUMNS]
    lines = [header, ["---"] * len(header)]
    for kind, (with_what, _) in SHAPES.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / kind
            folder.mkdir()
            build(kind, folder)
            found = [_tried(check, folder, Path(scratch) / name) for name, check in COLUMNS.items()]
        lines.append([f"`{kind}`", with_what, *found])
        print(kind, *found, file=sys.stderr)
    return TITLE + "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _tried(check: Callable[[Path, Path], str], folder: Path, output: Path) -> str:
    try:
        return check(folder, output)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"


def _apart(one: Sequence[Any], other: Sequence[Any]) -> float:
    return max(
        abs(first.probabilities[label] - second.probabilities[label])
        for first, second in zip(one, other, strict=True)
        for label in first.probabilities
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
