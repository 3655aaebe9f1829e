"""The language-modelling loss next to a head: by hand, on either padding side, and on no other tokens."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from gpt_tasks.data.encoded import IGNORE_INDEX
from gpt_tasks.heads.lm import linear_cross_entropy, text_loss
from gpt_tasks.heads.model import HeadModel
from gpt_tasks.heads.sequence import SequenceHead

TEXTS = [[3, 7, 1, 9, 4], [5, 0, 8], [6], [1, 2, 3, 4, 5, 6, 7]]


def padded(left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = torch.zeros(len(TEXTS), 9, dtype=torch.long), torch.zeros(len(TEXTS), 9, dtype=torch.long)
    for row, text in enumerate(TEXTS):
        where = slice(9 - len(text), None) if left else slice(len(text))
        ids[row, where] = torch.tensor(text)
        mask[row, where] = 1
    return ids, mask


def causal_lm() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2)).eval()


def summed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_and_its_gradients_are_those_of_torch(weighted: bool) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(600, 8, requires_grad=True), torch.randn(30, 8, requires_grad=True)
    labels, shares = torch.randint(30, (600,)), torch.rand(600)
    ours = linear_cross_entropy(hidden, weight, labels, torch.float32, shares if weighted else None)
    (3 * ours).backward()
    found = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    each = nn.functional.cross_entropy(hidden @ weight.T, labels, reduction="none")
    theirs = (each * shares).sum() if weighted else each.mean()
    (3 * theirs).backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(found, (hidden.grad, weight.grad), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("left", [False, True])
def test_each_text_contributes_its_mean(left: bool) -> None:
    """As transformers computes it for each text alone; a text of one token predicts nothing."""
    model = causal_lm()
    ids, mask = padded(left)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        hidden = model.transformer(ids, attention_mask=mask, position_ids=positions).last_hidden_state
        found = text_loss(hidden, model.lm_head.weight, ids, mask)
        alone = [model(torch.tensor([text]), labels=torch.tensor([text])).loss for text in TEXTS if len(text) > 1]
    assert float(found) == pytest.approx(float(sum(alone)), rel=1e-5)


def test_it_is_added_by_its_weight_and_by_labelled_examples_only() -> None:
    model = causal_lm()
    ids, mask = padded(left=False)
    labels = torch.tensor([0, 1, 1, IGNORE_INDEX])

    def loss(weight: float, rows: slice = slice(None)) -> float:
        matrix = model.lm_head.weight
        task = HeadModel(model.transformer, SequenceHead(16, 2), summed, output_matrix=matrix, lm_weight=weight).eval()
        torch.manual_seed(1)
        nn.init.normal_(task.head.linear.weight)
        with torch.no_grad():
            return float(task(ids[rows], mask[rows], labels=labels[rows])["loss"])

    with torch.no_grad():
        texts = [float(model(torch.tensor([text]), labels=torch.tensor([text])).loss) for text in TEXTS[:2]]
    assert loss(0.5) == pytest.approx(loss(0.0) + 0.5 * sum(texts) / 3, rel=1e-5)
    assert loss(0.5) == pytest.approx(loss(0.5, slice(3)), rel=1e-6)


def test_a_separate_matrix_is_unchanged() -> None:
    model = causal_lm()
    ids, mask = padded(left=False)
    matrix = model.lm_head.weight.detach().clone()
    task = HeadModel(model.transformer, SequenceHead(16, 2), summed, output_matrix=matrix, lm_weight=1.0)
    task(ids, mask, labels=torch.tensor([0, 1, 0, 1]))["loss"].backward()
    assert model.transformer.h[0].attn.c_attn.weight.grad is not None
    assert not any("matrix" in name for name, _ in task.named_parameters())
    assert not any("matrix" in name for name in task.state_dict())
