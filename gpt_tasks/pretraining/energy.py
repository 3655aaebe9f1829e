"""How much energy a training takes, as codecarbon estimates it, where that is installed (the extra `energy`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def energy_meter() -> Iterator[Callable[[], float | None]]:
    """Give a function that returns the kilowatt-hours used since by processor, memory and GPUs of this machine.

    They are measured where the hardware has counters that may be read, else estimated from its load; nothing leaves
    the machine. None where codecarbon is not installed.
    """
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        yield lambda: None
        return
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA",  # one must be given; what it says of emissions is replaced by the next line
        force_carbon_intensity_g_co2e_kwh=1000,  # so that its kilograms are kilowatt-hours
        output_methods=[],
        allow_multiple_runs=True,
        log_level="critical",
    )
    tracker.start()
    try:
        yield tracker.flush
    finally:
        tracker.stop()
