"""The Rego bundle, and the Python that loads and asks it."""

from pathlib import Path


def bundle_dir() -> Path:
    """Return the folder of the bundle that ships with Plantroom."""
    return Path(__file__).parent
