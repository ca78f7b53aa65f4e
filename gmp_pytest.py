"""The pytest fixture `simulation`: a network in virtual time, ended with the test (`gmp.testing.Simulation`).

pytest loads this in every run of an environment that gmp is installed in. So it stands outside of the package, and imports
nothing of it until a test uses the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gmp.testing import Simulation


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "simulation(seed=0, **settings): how the fixture `simulation` makes its network")


class _Teller:
    """Tells a test that fails where its simulation was; registered as long as that lasts."""

    def __init__(self, item: pytest.Item, simulation: Simulation) -> None:
        self._item, self._simulation = item, simulation
        self.error: BaseException | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[Any]:
        """Add seed, time and last events to the error, and keep that: `Simulation` ends in another way after one."""
        try:
            return (yield)
        except Exception as error:
            if item is self._item:
                self.error = error
                error.add_note(self._simulation.report())
            raise


@pytest.fixture
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """A `gmp.testing.Simulation`, in which the test runs.

    ``@pytest.mark.simulation(seed=7, seeds=2)`` gives its arguments; ``@pytest.mark.parametrize("simulation", range(100),
    indirect=True)`` runs the test with each of these seeds.
    """
    from gmp.testing import Simulation  # not before a test needs it

    marker = request.node.get_closest_marker("simulation")
    arguments = {} if marker is None else dict(marker.kwargs)
    if hasattr(request, "param"):
        arguments["seed"] = request.param
    made = Simulation(**arguments)
    teller = _Teller(request.node, made)
    plugins = request.config.pluginmanager
    plugins.register(teller)
    try:
        made.__enter__()
        try:
            yield made
        finally:
            error = teller.error
            made.__exit__(None if error is None else type(error), error, None)
    finally:
        plugins.unregister(teller)
