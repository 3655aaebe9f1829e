"""Writing with a causal language model: how tokens are chosen, how text comes out of them, when it ends."""
