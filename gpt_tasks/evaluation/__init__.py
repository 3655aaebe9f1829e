"""How good a model is: baselines, the report with its intervals, and what people read of it."""
