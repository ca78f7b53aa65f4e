"""What programs switch on beside their own work. Uses the public API only; nothing starts by being imported."""

from gmp import whose as _whose  # noqa: F401  # first: another project's gmp in our place is told by it
