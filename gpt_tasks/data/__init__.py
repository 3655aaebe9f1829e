"""From sources to batches: files and hub sets are read, typed by a task, split, encoded and cut into batches."""
