"""The head for tokens: one row of logits for each."""

from torch import Tensor, nn


class TokenHead(nn.Module):
    """Dropout and a linear layer on every token's hidden state."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.linear = nn.Linear(hidden_size, outputs)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits `[batch, length, outputs]` for hidden states `[batch, length, hidden]`."""
        logits: Tensor = self.linear(self.dropout(hidden))
        return logits
