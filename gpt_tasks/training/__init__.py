"""Training: configuration, the loop with its checkpoints, the run folder, and pretraining from raw text."""
