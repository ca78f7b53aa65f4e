"""A panel that shows what the weather stations measure, which are nodes of Perl's AnyEvent::MP."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import gmp


def show(port: gmp.Port, limit: int) -> None:
    """The body of the panel's port."""
    places: dict[str, str] = {}

    def changed(stations: Mapping[str, Any], added: list[str], *_: object) -> None:
        for station in added:
            gmp.send(port, "station", station, stations[station])

    gmp.family("stations").monitor(changed)
    for message in port:
        match message:
            case ("station", station, place) if station not in places:
                places[station] = place
                gmp.monitor(station, port, "gone", station)
                gmp.send(station, "watch", port)
                alarm = gmp.spawn(gmp.node_of(station), "station::alarm", limit, port)
                gmp.monitor(alarm, port, "alarm ended", place)
                print(f"{place} is there", flush=True)
            case ("reading", place, degrees):
                print(f"{place}: {degrees} degrees", flush=True)
            case ("ring", place, above):
                print(f"{place}: it is warmer than {above} degrees!", flush=True)
            case ("gone", station, *reason):
                print(f"{places.pop(station)} is gone ({reason[0] if reason else 'in order'})", flush=True)
            case ("alarm ended", place, *reason):
                print(f"the alarm of {place} has ended ({reason[0] if reason else 'in order'})", flush=True)


def ask(place: str) -> None:
    """Print what one station measures now."""
    stations, known = gmp.group("stations"), {}
    while place not in known:  # another one may be seen first
        known = {its_place: station for station, its_place in stations.wait(len(known) + 1, timeout=20).items()}
    tag, degrees = gmp.call(known[place], "read", timeout=5)
    print(f"{place}: {tag} {degrees}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", default="127.0.0.1:4040", help="where the stations find it (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=17, help="degrees that let an alarm ring (default: %(default)s)")
    parser.add_argument("--ask", metavar="PLACE", help="ask one station, through that panel, and end")
    arguments = parser.parse_args()
    if arguments.ask is None:
        gmp.configure(node_id="panel", binds=[arguments.bind])
        gmp.port(show, arguments.limit)
        print("the panel waits for stations", flush=True)
        gmp.serve_forever()
    else:
        gmp.configure(node_id="asking/", seeds=[arguments.bind])
        ask(arguments.ask)
