"""Real headless Chromium for tests: Debian's chromium and chromium-driver, driven by selenium (extra ``test``)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import gevent
import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
needs_chromium = pytest.mark.skipif(
    not CHROMIUM or not DRIVER, reason="needs Debian's chromium and chromium-driver, which the gate installs as root"
)


class Browser:
    """A tab. The driver blocks, so it is called in the thread pool while the test's own nodes live on."""

    def __init__(self) -> None:
        webdriver = pytest.importorskip("selenium.webdriver")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._folder = tempfile.TemporaryDirectory()
        for option in (*OPTIONS, f"--user-data-dir={self._folder.name}"):
            options.add_argument(option)
        self.driver = self.call(webdriver.Chrome, options, webdriver.ChromeService(DRIVER))

    @staticmethod
    def call(function: Callable[..., Any], *args: Any) -> Any:
        """Call something of the driver's."""
        return gevent.get_hub().threadpool.apply(function, args)

    def open(self, address: str) -> None:
        """Go to an address."""
        self.call(self.driver.get, address)

    def script(self, source: str) -> Any:
        """Run JavaScript in the page; returns what it returns."""
        return self.call(self.driver.execute_script, source)

    def complaints(self) -> list[str]:
        """What the console shows."""
        return [entry["message"] for entry in self.call(self.driver.get_log, "browser")]

    def close(self) -> None:
        """Close it."""
        self.call(self.driver.quit)
        self._folder.cleanup()
