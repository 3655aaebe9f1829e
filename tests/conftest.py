"""What many tests need: a real tokenizer and a GPT-2 of two layers, both too small to be slow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
SENTENCES = (
    "The soup was cold and the waiter never came back.",
    "A warm, generous film that I would gladly see again.",
    "Nothing about this hotel was worth the price.",
    "She plays the cello as if nobody were listening, and it is lovely.",
    "The train was late, the coffee weak, the view splendid.",
    "Wir haben den Zug verpasst, aber der Abend war schön.",
    "What a waste of a good actor and of two good hours!",
    "I laughed, I cried, I called my mother.",
)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level BPE of 384 tokens, whose one special token is both the end of text and the padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


@pytest.fixture(scope="session")
def tiny_backbone_folder(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerBase
) -> Path:
    """A folder with a randomly weighted GPT-2 of 2 layers and 16 dimensions, as `AutoModelForCausalLM` opens it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("backbones") / "tiny-gpt2"
    eos = tiny_tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tiny_tokenizer),
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=eos,
        eos_token_id=eos,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
