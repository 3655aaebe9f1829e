"""`gpt-tasks`, and `python -m gpt_tasks`, so that torchrun and accelerate can start the command line."""

from typing import NoReturn

from gpt_tasks.entry_points import hide_damaged


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    hide_damaged()
    # Only now: what it imports reads the entry points of all that is installed.
    from gpt_tasks.cli.main import main

    main()


if __name__ == "__main__":
    main()
