"""transformers without its progress bars and reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpt_tasks.threads import shared


@shared
@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and reports off the terminal: what matters in them is raised as an error."""
    from transformers import utils

    logging: Any = utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
