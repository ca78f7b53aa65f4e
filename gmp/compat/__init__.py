"""The names of other members of the family, for those who port programs."""

from gmp import whose as _whose  # noqa: F401  # first: another project's gmp in our place is told by it
