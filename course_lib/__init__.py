"""The package behind the course: see docs/maintaining.md for what lies where."""

__version__ = "0.1.0"
