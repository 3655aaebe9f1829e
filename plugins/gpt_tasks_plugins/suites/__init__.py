"""The built-in suites: `starter`, which comes with its data, and well-known benchmarks with their data on the hub."""

from pathlib import Path

from gpt_tasks import Suite, hookimpl


@hookimpl
def register_suites() -> list[Suite]:
    """Register every YAML file of this folder under its name."""
    return [Suite(file.stem, file) for file in sorted(Path(__file__).parent.glob("*.yaml"))]
