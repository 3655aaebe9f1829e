"""The same log-likelihoods as lm-evaluation-harness 0.4.13, request by request."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, PreTrainedTokenizerBase

from gpt_tasks.scoring.engine import PlainEngine, TrieEngine
from gpt_tasks.scoring.model import ScoredModel
from gpt_tasks.scoring.requests import Tokenization
from gpt_tasks.tasks.encoding import encode_text
from gpt_tasks.types import Continuation, Rolling

pytest.importorskip("lm_eval")
WINDOW = 64
LONG = "The train was late and the coffee was weak. " * 6

CONTINUATIONS = {
    "empty context": ("", "The soup was cold."),
    "context of a BOS": ("<|endoftext|>", "The soup"),
    "trailing space": ("The soup was ", "cold"),
    "several trailing spaces": ("The soup was   ", "cold"),
    "trailing newline": ("The soup was\n", "cold"),
    "leading space": ("The soup was", " cold"),
    "truncated at the window": (LONG, " and then it was cold"),
    "exactly the window": ("a" * 10, "b" * 55),
    "merge across the boundary": ("The waiter ne", "ver came back."),
    "Chinese": ("这部电影", "很好看。"),
    "emoji": ("I laughed 😂", "😂🎉 again"),
    "half a character apart": ("caf", "é"),
    "one token": ("The waiter never came", " b"),
    "whole continuation of the window": ("x", "y" * 64),
}
ROLLING = {
    "one token": "a",
    "within the window": "The soup was cold.",
    "exactly the window": "z" * 64,
    "one more than the window": "z" * 65,
    "several windows": LONG + "这部电影 😂",
}


ADDED = {
    "adds nothing": "$A",
    "adds a BOS": "<|endoftext|> $A",
    "adds an EOS": "$A <|endoftext|>",
    "adds both": "<|endoftext|> $A <|endoftext|>",
}


def adding(single: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Any:
    """A copy of a tokenizer that adds tokens to a text as `single` says."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    loaded.backend_tokenizer.post_processor = TemplateProcessing(
        single=single, special_tokens=[("<|endoftext|>", loaded.bos_token_id)]
    )
    return loaded


@pytest.fixture(scope="module", params=list(ADDED))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(kind: str, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path_factory: Any) -> Any:
    return adding(ADDED[kind], tiny_tokenizer, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def model(make_model: Callable[..., Any]) -> Any:
    return make_model(GPT2Config, n_embd=32, n_layer=2, n_head=4, n_positions=WINDOW)


@pytest.fixture(scope="module")
def harness(
    model: Any, kind: str, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """With a tokenizer that adds nothing after a text: an EOS is what it would predict in place of an answer."""
    from lm_eval.models.huggingface import HFLM

    single = ADDED[kind].removesuffix(" <|endoftext|>")
    theirs = adding(single, tiny_tokenizer, tmp_path_factory.mktemp("theirs"))
    return HFLM(pretrained=model, tokenizer=theirs, batch_size=4, max_length=WINDOW, device="cpu")


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, arguments=each, idx=0) for each in arguments]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def exactly(model: Any) -> Callable[[Any], float]:
    """The log-likelihood of a path in float64."""
    exact = copy.deepcopy(model).double()

    def log_likelihood(path: Any) -> float:
        with torch.inference_mode():
            logits = exact(torch.tensor([path.inputs])).logits[0, -len(path.targets) :]
        return float(logits.log_softmax(-1).gather(1, torch.tensor(path.targets)[:, None]).sum())

    return log_likelihood


@pytest.mark.parametrize("engine", [PlainEngine, TrieEngine])
def test_log_likelihoods_are_those_of_float64(
    engine: type, model: Any, tokenizer: Any, exactly: Callable[[Any], float]
) -> None:
    asked = [*(Continuation(*pair) for pair in CONTINUATIONS.values()), *map(Rolling, ROLLING.values())]
    paths = [path for some in Tokenization(tokenizer, WINDOW).paths(asked) for path in some]
    for place, answer in engine(ScoredModel(model)).score(paths):
        right = exactly(paths[place])
        assert answer.value == pytest.approx(right, abs=max(5e-5, 1e-6 * abs(right)))


@pytest.mark.parametrize("engine", [PlainEngine, TrieEngine])
def test_continuations(engine: type, model: Any, tokenizer: Any, harness: Any) -> None:
    theirs = harness.loglikelihood(instances("loglikelihood", list(CONTINUATIONS.values())), disable_tqdm=True)
    paths = Tokenization(tokenizer, WINDOW).paths([Continuation(*pair) for pair in CONTINUATIONS.values()])
    answers = dict(engine(ScoredModel(model)).score([path for (path,) in paths]))
    for place, (name, (value, greedy)) in enumerate(zip(CONTINUATIONS, theirs, strict=True)):
        assert answers[place].value == pytest.approx(value, abs=max(1e-4, 1e-6 * abs(value))), name
        assert answers[place].is_greedy == greedy, name


def test_greedy_continuations(model: Any, tokenizer: Any, harness: Any) -> None:
    context = "The soup"
    ids = torch.tensor([encode_text(tokenizer, context)])
    said = model.generate(ids, max_new_tokens=3, do_sample=False)[0, ids.shape[1] :]
    for text in (tokenizer.decode(said), tokenizer.decode(said[:1]), "nothing of the kind"):
        (((_, greedy),), ((path,),)) = (
            harness.loglikelihood(instances("loglikelihood", [(context, text)]), disable_tqdm=True),
            Tokenization(tokenizer, WINDOW).paths([Continuation(context, text)]),
        )
        ((_, ours),) = TrieEngine(ScoredModel(model)).score([path])
        assert ours.is_greedy == greedy


def test_rolling_texts(model: Any, tokenizer: Any, harness: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # By itself it reads a BOS that the tokenizer adds twice, and counts one of them.
    monkeypatch.setattr(harness, "add_bos_token", False)
    theirs = harness.loglikelihood_rolling(
        instances("loglikelihood_rolling", [(text,) for text in ROLLING.values()]), disable_tqdm=True
    )
    paths = Tokenization(tokenizer, WINDOW).paths([Rolling(text) for text in ROLLING.values()])
    for name, windows, value in zip(ROLLING, paths, theirs, strict=True):
        answers = [answer for _, answer in TrieEngine(ScoredModel(model)).score(windows)]
        assert len(answers) == len(windows)
        assert sum(answer.value for answer in answers) == pytest.approx(value, abs=max(1e-4, 1e-6 * abs(value))), name


def test_a_chat_template_adds_no_second_bos(tokenizer: Any) -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    context = tokenizer.apply_chat_template(
        [{"role": "user", "content": "The soup?"}], chat_template=template, tokenize=False
    )
    ((path,),) = Tokenization(tokenizer, WINDOW).paths([Continuation(context, " cold")])
    assert path.inputs.count(tokenizer.bos_token_id) == 1


def test_cut_tokens_are_counted(tiny_tokenizer: Any) -> None:
    ((path,),) = Tokenization(tiny_tokenizer, WINDOW).paths([Continuation(LONG, " and then it was cold")])
    whole = encode_text(tiny_tokenizer, LONG + " and then it was cold")
    assert len(path.inputs) == WINDOW
    assert path.cut == len(whole) - 1 - WINDOW
