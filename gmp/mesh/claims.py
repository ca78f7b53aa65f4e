"""Which report about an owner counts, and how long its entries live. Pure; times are handed in.

Each gmp node numbers the states of its entries: a *version* is its incarnation and a counter that it raises at each change
and each time it attaches to a master. A global node *claims* the nodes that are attached to it. The highest version
wins, whichever node reports it, and that node is the only claimant, so that reports may arrive in any order over any
links and all nodes end up alike.

An incarnation is the start time by the wall clock, and that may have been set back meanwhile. But a seed that has a
connection with a node knows which of its incarnations lives. When that compares smaller than the one known before, its
versions are told with a *rank* in its place: both, joined, which compares greater than the former and smaller than any
later one.

An owner that no seed claims is an *orphan*: its master is lost, and it may attach to another one in a moment. It keeps its
entries for `GRACE` seconds. One whose end was seen (it left, or its process ended) is dropped at once, and its version is
remembered. race: a report that was on its way when the owner ended arrives afterwards: it is not newer, so it is ignored.

race: what was seen was not its end: something between closed the connection (a proxy that is restarted), the owner lives,
and the seed that it is attached to reports no newer version. So the end is forgotten as soon as the owner is connected
again, and after `REMEMBERED` seconds in any case; then the seed that reported it meanwhile is asked. race: a seed that was
cut off when a node came back with an earlier clock knows the former incarnation only, which it takes for the newer: a seed
that reports less than is known is asked when that is dropped. race: a seed that still takes the connection of a former
incarnation for alive hears its last words, and ranks it above the one that lives elsewhere: that is asked to attach again
once nobody claims it (`Registry._recall`).
"""

from __future__ import annotations

import enum
from itertools import islice, takewhile

GRACE = 5.0  #: seconds for which an owner that no seed claims keeps its entries
REMEMBERED = 30.0  #: seconds for which the end of an owner is remembered: no report is under way for longer
Version = tuple[str, int]  #: incarnation, or its rank, and counter
JOINT = "+"


def _incarnation_of(rank: str) -> str:
    return rank.rpartition(JOINT)[2]


class Step(enum.Enum):
    """What to do with a reported change."""

    APPLY = "apply"
    IGNORE = "ignore"  #: the change is known already
    ASK = "ask"  #: something is missing before it: ask for the whole


class Record:
    """An owner: the version known of it, the seed that claims it (None: an orphan), and one that reported less since."""

    __slots__ = ("claimant", "reporter", "version")

    def __init__(self, version: Version, claimant: str | None) -> None:
        self.version, self.claimant = version, claimant
        self.reporter: str | None = None


class End:
    """An owner whose end was seen: at which version, when, and a seed that has reported that version since."""

    __slots__ = ("reporter", "since", "version")

    def __init__(self, version: Version, since: float, reporter: str | None) -> None:
        self.version, self.since, self.reporter = version, since, reporter


class Claims:
    """The owners that one global node knows of."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._orphans: dict[str, float] = {}  # since when, the oldest first
        self._ended: dict[str, End] = {}  # the oldest first

    def __contains__(self, owner: str) -> bool:
        return owner in self._records

    def claimant(self, owner: str) -> str | None:
        """Return the seed that claims `owner`; None if none does."""
        record = self._records.get(owner)
        return None if record is None else record.claimant

    def version(self, owner: str) -> Version:
        """Return the version known of `owner`. *Raises:* `KeyError`."""
        return self._records[owner].version

    def rank(self, owner: str, reported: str, living: str) -> str:
        """Return the rank of what is `reported` of `owner`; `living`: its incarnation that is known to live, or "".

        What lives ranks no less than what is known. Another seed may report it, which knew none of the former ones; and what
        has a rank here keeps that, whoever reports it.
        """
        ranks = [known.version[0] for known in (self._records.get(owner), self._ended.get(owner)) if known is not None]
        newest = max(ranks, default="")
        before, joint, last = newest.rpartition(JOINT)
        incarnation = _incarnation_of(reported)
        if reported >= newest or (incarnation != last and incarnation != living):
            return reported
        if last == incarnation:
            return newest
        return before + joint + incarnation if incarnation > last else newest + JOINT + incarnation

    def owners(self) -> list[str]:
        """Return all owners that are known."""
        return list(self._records)

    def claimed_by(self, seed: str) -> list[str]:
        """Return the owners that `seed` claims."""
        return [owner for owner, record in self._records.items() if record.claimant == seed]

    def claim(self, owner: str, seed: str, version: Version) -> bool:
        """Handle a report by `seed` of the whole of `owner`; return whether to take its contents."""
        end = self._ended.get(owner)
        if end is not None and version <= end.version:
            end.reporter = seed
            return False
        record = self._records.get(owner)
        if record is None or version > record.version:
            self._records[owner] = Record(version, seed)
            self._orphans.pop(owner, None)
            return True
        if version == record.version and (record.claimant is None or seed < record.claimant):
            record.claimant = seed
            self._orphans.pop(owner, None)
        elif version < record.version:
            record.reporter = seed
        return False

    def change(self, owner: str, seed: str, version: Version) -> Step:
        """Handle a report by `seed` of a change of `owner`, which leads to `version`."""
        record = self._records.get(owner)
        if record is not None and version <= record.version:
            return Step.IGNORE
        incarnation, counter = version
        if record is None or record.claimant != seed or record.version != (incarnation, counter - 1):
            return Step.ASK
        record.version = version
        return Step.APPLY

    def release(self, owner: str, version: Version, *, ended: bool, now: float) -> bool:
        """End the claim on `owner` at `version`; `ended`: no seed will claim it again. Return whether to drop it now."""
        record = self._records.get(owner)
        if record is not None and version < record.version:
            return False  # race: it has attached to another seed meanwhile
        if not ended:
            if record is not None and record.claimant is not None:
                self._orphan(owner, record, now)
            return False
        self._ended.pop(owner, None)  # so that the oldest is always the first
        self._ended[owner] = End(version, now, None if record is None else record.reporter)
        self._orphans.pop(owner, None)
        return self._records.pop(owner, None) is not None

    def _orphan(self, owner: str, record: Record, now: float) -> None:
        record.claimant = None
        self._orphans.pop(owner, None)
        self._orphans[owner] = now

    def end(self, owner: str, incarnation: str, *, now: float) -> bool:
        """Note that the end of that incarnation was seen; return whether to drop `owner` now, as no seed claims it."""
        record = self._records.get(owner)
        if record is None or record.claimant is not None or _incarnation_of(record.version[0]) != incarnation:
            return False
        return self.release(owner, record.version, ended=True, now=now)

    def lives(self, owner: str, incarnation: str) -> bool:
        """Note that `owner` is connected; return whether others must be asked for it.

        Its end was wrongly believed; or that of a former incarnation made this node ignore a report, perhaps of this one.
        """
        end = self._ended.get(owner)
        if end is None or _incarnation_of(end.version[0]) != incarnation:
            return end is not None and end.reporter is not None
        del self._ended[owner]
        return True

    def seed_lost(self, seed: str, now: float) -> list[str]:
        """Orphan what `seed` claims, as it cannot be asked any more; return that."""
        owners = self.claimed_by(seed)
        for owner in owners:
            self._orphan(owner, self._records[owner], now)
        return owners

    def expire(self, now: float) -> list[tuple[str, str | None]]:
        """Return the owners to drop, as their time is up, each with a seed to ask then, which may know better."""
        gone = list(takewhile(lambda owner: self._orphans[owner] + GRACE <= now, self._orphans))
        for owner in gone:
            del self._orphans[owner]
        return [(owner, self._records.pop(owner).reporter) for owner in gone]

    def forget_ends(self, now: float) -> list[tuple[str, str]]:
        """Forget the ends whose time is up; return the owners that were reported since, each with the seed that did."""
        old = list(takewhile(lambda item: item[1].since + REMEMBERED <= now, self._ended.items()))
        for owner, _ in old:
            del self._ended[owner]
        return [(owner, end.reporter) for owner, end in old if end.reporter is not None]

    def next_expiry(self) -> float | None:
        """Return when the next orphan's time is up, or an end is to be forgotten; None without one."""
        times = [since + GRACE for since in islice(self._orphans.values(), 1)]
        times += [end.since + REMEMBERED for end in islice(self._ended.values(), 1)]
        return min(times, default=None)
