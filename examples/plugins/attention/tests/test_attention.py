import torch
from gpt_tasks_attention import build
from torch import nn


def test_padding_changes_no_logit_on_either_side():
    head = build(8, 3)
    nn.init.normal_(head.weigh.weight)
    hidden = torch.randn(1, 5, 8)
    alone = head(hidden[:, 1:4], torch.ones(1, 3))
    assert torch.allclose(head(hidden[:, 1:], torch.tensor([[1, 1, 1, 0]])), alone, atol=1e-6)
    assert torch.allclose(head(hidden[:, :4], torch.tensor([[0, 1, 1, 1]])), alone, atol=1e-6)


def test_what_it_attends_to_is_learned():
    head = build(8, 3)
    head(torch.randn(2, 5, 8), torch.ones(2, 5)).square().sum().backward()
    assert head.weigh.weight.grad.abs().sum() > 0
