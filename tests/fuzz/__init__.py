"""A fuzzer: mutated data, runs, models, suites, templates, configurations, flags and texts, and what each must hold.

    python -m tests.fuzz --minutes 60

No input may end with exit code 1, a traceback, a signal, a hang, more memory than a limit, a message of any length, a
blame of a plugin, or a message that does not name the culprit. The files that were there stay as they were, and an
error leaves nothing behind. What was found is kept in `kept.py`.
"""
