"""A sensor that fails, an average, and a display, under one supervisor: python weather.py --seconds 10."""

from __future__ import annotations

import argparse
import random
import sys

import gevent

import gmp


def sensor(port: gmp.Port, fails: float) -> None:
    """Measure ten times a second. It fails now and then, as sensors do."""
    print("sensor: started", flush=True)
    while True:
        gevent.sleep(0.1)
        if random.random() < fails:
            raise OSError("the sensor does not answer")
        gmp.group("readings").send("reading", 20 + random.gauss(0, 1))


def average(port: gmp.Port) -> None:
    """The mean of what this sensor has measured since it was started."""
    print("average: started", flush=True)
    gmp.group("readings").join(port)
    count, total = 0, 0.0
    for message in port:
        match message:
            case ("reading", value):
                count, total = count + 1, total + value
                gmp.group("displays").send("show", count, total / count)


def display(port: gmp.Port) -> None:
    """Show the mean."""
    print("display: started", flush=True)
    gmp.group("displays").join(port)
    for message in port:
        match message:
            case ("show", count, mean):
                print(f"display: {mean:.2f} °C after {count} readings", flush=True)


def main(seconds: float, fails: float, most: int) -> int:
    """Run for so long, or until the supervisor gives up."""
    supervisor = gmp.supervise(
        [gmp.Child(sensor, fails), gmp.Child(average), gmp.Child(display)],
        strategy="rest_for_one",
        max_restarts=most,
        period=5.0,
    )
    if supervisor.join(timeout=seconds):
        print("the supervisor gave up:", supervisor.reason, flush=True)
        return 1
    gmp.call(supervisor, "stop")
    print("all is stopped", flush=True)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--fails", type=float, default=0.03, help="how likely a reading fails")
    parser.add_argument("--most", type=int, default=10, help="restarts within 5 s before the supervisor gives up")
    arguments = parser.parse_args()
    sys.exit(main(arguments.seconds, arguments.fails, arguments.most))
