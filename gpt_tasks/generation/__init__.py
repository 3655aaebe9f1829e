"""Generation with a causal language model: how tokens are chosen, how they become text, when it ends."""
