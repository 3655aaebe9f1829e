"""What the splits of a data set are called."""

from __future__ import annotations

SPLITS = ("train", "validation", "test")
ALL = "all"

_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def split_named(name: str) -> str | None:
    """Return the split (train, validation or test) that a name such as `dev` means, or None."""
    return _NAMES.get(name.lower())
