"""A shop of three services in processes that are killed at random: python shop.py --seconds 10."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.subprocess

import gmp

ITEMS = {"tea": 250, "coffee": 300, "sugar": 100}  # and their prices


class OutOfStock(Exception):
    """There is no more of an item."""


class Void(Exception):
    """The order was given up before it was paid."""


class Stock:
    """What is there, and which order has taken what. (It and the till stand for a database, and are not killed.)"""

    def __init__(self, each: int) -> None:
        self.left = dict.fromkeys(ITEMS, each)
        self.taken: dict[str, str] = {}

    @gmp.method(idempotent=True, finish=True)
    def take(self, order: str, item: str) -> int:
        """Take one for an order; doing it again takes no second one. Return the price."""
        if order not in self.taken:
            if not self.left[item]:
                raise OutOfStock(item)
            self.left[item] -= 1
            self.taken[order] = item
        return ITEMS[item]

    def give_back(self, order: str) -> None:
        """Undo `take`, if it was done."""
        item = self.taken.pop(order, None)
        if item is not None:
            self.left[item] += 1


class Till:
    """What was paid, and which orders are void."""

    def __init__(self) -> None:
        self.paid: dict[str, int] = {}
        self.void: set[str] = set()

    @gmp.method(idempotent=True, finish=True)
    def pay(self, order: str, amount: int) -> None:
        """Pay for an order; doing it again pays nothing more."""
        if order in self.void:
            raise Void(order)
        self.paid[order] = amount

    def cancel(self, order: str) -> bool:
        """Make an order void unless it is paid: a payment that is still on its way comes too late then."""
        if order not in self.paid:
            self.void.add(order)
        return order in self.void

    def bill(self) -> Iterator[tuple[str, int]]:
        """What was paid, order by order."""
        yield from list(self.paid.items())


class Orders:
    """Takes orders: asks the stock and the till, within the time that the customer has."""

    def __init__(self) -> None:
        retry = gmp.Retry(5, (gmp.PortDied, gmp.CallTimeout), pause=0.05)
        self.stock = gmp.remote("stock", errors=[OutOfStock], retry=retry, timeout=1)
        self.till = gmp.remote("till", errors=[Void], retry=retry, timeout=1)

    @gmp.method(idempotent=True)
    def order(self, order: str, item: str) -> int:
        """Sell one item."""
        price: int = self.stock.take(order, item)
        gevent.sleep(random.random() / 50)  # the clerk wraps it
        self.till.pay(order, price)
        return price


def orders(port: gmp.Port) -> None:
    """The service `orders`; the supervisor starts it again when it dies."""
    port.own(gmp.expose(Orders(), "orders", concurrency=20, errors=[OutOfStock, Void]))
    port.receive()


def serve(seed: str) -> None:
    """One process: a node with a supervised service, until standard input ends."""
    node = gmp.configure(binds=[], seeds=[seed], node_id="orders/", leave_timeout=2)
    gmp.supervise([orders])
    threading.Thread(target=_close_at_end, args=(node,), daemon=True).start()
    gmp.serve_forever()


def _close_at_end(node: gmp.Node) -> None:
    sys.stdin.read()
    node.from_thread(node.close)


class Staff:
    """The processes, of which one is killed now and then."""

    def __init__(self, seed: str, count: int) -> None:
        self._command = [sys.executable, __file__, "--serve", seed]
        self.killed = 0
        self._running = [self._start() for _ in range(count)]

    def _start(self) -> Any:
        return gevent.subprocess.Popen(self._command, stdin=subprocess.PIPE)

    def kill_one(self) -> None:
        """Kill one, at random, and start another in its place."""
        number = random.randrange(len(self._running))
        self._end(self._running[number])
        self._running[number] = self._start()
        self.killed += 1

    def _end(self, process: Any) -> None:
        process.kill()
        process.stdin.close()
        process.wait()

    def close(self) -> None:
        """End all."""
        for process in self._running:
            self._end(process)


def customer(name: int, outcomes: Counter[str], stock: Stock, till: Till) -> None:
    """Order again and again; give up an order that cannot be finished in time."""
    shop = gmp.remote("orders", errors=[OutOfStock], retry=gmp.Retry(4, gmp.PortDied, pause=0.05), timeout=4)
    number = 0
    while True:
        number += 1
        order = f"{name}-{number}"
        try:
            shop.order(order, random.choice(list(ITEMS)))
            outcomes["sold"] += 1
        except OutOfStock:
            outcomes["out of stock"] += 1
            gevent.sleep(0.1)
        except (gmp.PortDied, gmp.CallTimeout, gmp.WaitTimeout, gmp.RemoteError, gmp.CallRefused) as error:
            outcomes[f"failed: {type(error).__name__}"] += 1
            if till.cancel(order):
                stock.give_back(order)


def main(seconds: float, each: int) -> int:
    """Run the shop for so long; return 0 when everything agrees at its end."""
    node = gmp.configure(node_id="shop", binds=["127.0.0.1:0"])
    stock, till = Stock(each), Till()
    gmp.expose(stock, "stock", errors=[OutOfStock], concurrency=20)
    gmp.expose(till, "till", errors=[Void], concurrency=20)
    staff = Staff(node.binds[0], 2)
    outcomes: Counter[str] = Counter()
    try:
        gmp.group("orders").wait(2, timeout=60)
        customers = [gevent.spawn(customer, name, outcomes, stock, till) for name in range(10)]
        with gevent.Timeout(seconds, False):
            while True:
                gevent.sleep(random.uniform(0.5, 1.5))
                staff.kill_one()
        gevent.sleep(0)
        gevent.killall(customers)
        gevent.sleep(5)  # what is still under way ends: the time of a customer is up
    finally:
        staff.close()
    for order in set(stock.taken) - set(till.paid):  # what was left in the middle
        stock.give_back(order)
    bill = dict(gmp.remote("till").bill())
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())), flush=True)
    left = sum(stock.left.values())
    prices = {order: ITEMS[item] for order, item in stock.taken.items()}
    right = bill == prices and left + len(bill) == each * len(ITEMS)
    verdict = "it agrees" if right else "IT DOES NOT AGREE"
    print(f"{staff.killed} killed, {len(bill)} paid, {left} left: {verdict}", flush=True)
    node.close()
    return 0 if right else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--each", type=int, default=2000, help="how many of each item there are")
    parser.add_argument("--serve", metavar="SEED", help="be one of the processes")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    else:
        sys.exit(main(arguments.seconds, arguments.each))
