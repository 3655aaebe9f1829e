"""The module of the head; imported when a model is built, because it needs torch."""

from torch import nn


class AttentionHead(nn.Module):
    """Logits of a weighted mean over all tokens, whose weights are learned; it begins as the plain mean."""

    def __init__(self, hidden_size, outputs):
        super().__init__()
        self.weigh = nn.Linear(hidden_size, 1, bias=False)
        self.classify = nn.Linear(hidden_size, outputs)
        nn.init.zeros_(self.weigh.weight)

    def forward(self, hidden, attention_mask):
        """Return logits `[batch, outputs]` for hidden states `[batch, length, hidden]`, but those of padding."""
        padding = (attention_mask == 0).unsqueeze(-1)
        weights = self.weigh(hidden).masked_fill(padding, float("-inf")).softmax(dim=1)
        return self.classify((weights * hidden.masked_fill(padding, 0)).sum(dim=1))
