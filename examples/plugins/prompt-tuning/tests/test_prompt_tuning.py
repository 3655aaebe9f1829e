import pytest
import torch
from gpt_tasks_prompt_tuning import PromptOptions, prepare
from transformers import BloomConfig, BloomModel, GPT2Config, GPT2Model

FIVE = PromptOptions(prompt_vectors=5)


@pytest.fixture(params=["gpt2", "bloom"])
def transformer(request):
    torch.manual_seed(0)
    if request.param == "bloom":
        return BloomModel(BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2)).eval()
    return GPT2Model(GPT2Config(vocab_size=50, n_positions=64, n_embd=16, n_layer=2, n_head=2)).eval()


def test_the_vectors_are_all_that_moves(transformer):
    moving = [parameter.shape for parameter in prepare(transformer, FIVE).parameters() if parameter.requires_grad]
    assert moving == [(5, 16)]


def test_a_text_sees_them_and_padding_changes_nothing_on_either_side(transformer):
    prompted = prepare(transformer, FIVE).eval()
    ids = torch.tensor([[5, 6, 7]])
    alone = prompted(ids, torch.ones_like(ids)).last_hidden_state
    assert alone.shape == (1, 3, 16)
    assert not torch.allclose(alone, transformer(ids).last_hidden_state, atol=1e-3)
    right = prompted(torch.tensor([[5, 6, 7, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]])).last_hidden_state
    left = prompted(torch.tensor([[0, 0, 5, 6, 7]]), torch.tensor([[0, 0, 1, 1, 1]])).last_hidden_state
    assert torch.allclose(right[:, :3], alone, atol=1e-5)
    assert torch.allclose(left[:, 2:], alone, atol=1e-5)
