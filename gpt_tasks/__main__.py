"""`gpt-tasks`, and `python -m gpt_tasks`, so that torchrun and accelerate can start the command line."""

import signal
from typing import NoReturn

from gpt_tasks.entry_points import hide_damaged


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    # Until the command line has its own handlers nothing is to be cleared up, and no traceback to be shown.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    hide_damaged()
    # Only now: what it imports reads the entry points of all that is installed.
    from gpt_tasks.cli.main import main

    main()


if __name__ == "__main__":
    main()
