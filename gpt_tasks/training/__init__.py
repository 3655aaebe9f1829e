"""Fine-tuning: configuration, the loop with its checkpoints, the run folder, and what a finished run does."""
