"""What goes wrong in a simulation, apart from the program under test."""

from __future__ import annotations


class SimulationError(AssertionError):
    """Something cannot be simulated, or did not come in the time that was given; the text says what to do instead."""
