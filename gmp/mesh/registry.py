"""A global node's side of the global protocol: it keeps the directory, and tells subscribers and other global nodes.

Between gmp nodes each owner's entries travel under the owner's name with a version (`gmp.mesh.claims`), so that a node
that changes its master does not flap out of its groups:

    gmp.attach incarnation counter database             slave → master: I am yours, this is all I have
    gmp.update counter family set deleted               slave → master: a change
    gmp.set {owner: [incarnation, counter, database]}   global → global, on meeting: all that I claim
    gmp.claim owner incarnation counter database        global → global: that node is attached to me
    gmp.change owner incarnation counter family set deleted
    gmp.release owner incarnation counter ended         global → global: it no longer is
    gmp.want owner                                      global → global: I miss something; answered by gmp.claim
                                                        master → slave: what you have is lost here; by gmp.attach

Perl nodes speak plain g_*. A Perl slave's entries are reported to gmp nodes as part of this node's own; a Perl global
node's are a shard of their own, as in AnyEvent::MP, and it is told of everything that this node's slaves have, merged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gmp.mesh.addresses import ADDRESSES
from gmp.mesh.border import Border
from gmp.mesh.claims import Claims, Step, Version
from gmp.mesh.directory import Change, Database, Directory, Family, clean_keys, difference, families_of
from gmp.mesh.ground import Cancellable, Ground
from gmp.mesh.perl_globals import PerlGlobals
from gmp.mesh.queries import Queries
from gmp.mesh.quota import Limits
from gmp.mesh.unattached import Unattached
from gmp.wire.requests import ATTACH, CHANGE, CLAIM, G_GLOBAL, G_SET, G_UPD, RELEASE, SET, UPDATE, WANT

GLOBALS = "'g"
MOST_COUNTED = 1 << 63  # no framing carries more; only a node that means harm has counted so far
FORMER = "\uffff#former master"  # no node's ID, and behind all of them in rank


class Registry:
    """The directory as one global node keeps it."""

    def __init__(self, ground: Ground, changed: Callable[[list[Change]], None], limits: Limits, border: Border) -> None:
        self.directory = Directory(ground.id, limits, self._left_out)
        self._limits = limits
        self.claims = Claims()
        self.globals: set[str] = set()  #: connected nodes that said they are global; kept also while this node is not
        self._untrusted: set[str] = set()  # connected nodes that said so and are not believed
        self._ground = ground
        self._border = border
        self._id = ground.id
        self._changed = changed
        self._active = False
        self._counter = 0
        self._perl_slaves: set[str] = set()
        self._slaves: set[str] = set()  # connected gmp nodes that have attached here, whoever claims them now
        self._queries = Queries(ground, self.directory, limits.entries, border)
        self._perl_globals = PerlGlobals(
            ground, border, self.directory, self.globals, owners=self._told_perl, is_told=self._is_told_perl
        )
        self._unattached = Unattached(ground, self._is_attached)
        self._expiry: Cancellable | None = None
        self._expiry_due = 0.0
        self.requests: dict[str, Callable[..., None]] = {  #: name → function(sender, *args) of those that are answered here
            ATTACH: self._attach,
            UPDATE: self._update,
            SET: self._set,
            CLAIM: self._claim,
            CHANGE: self._change,
            RELEASE: self._release,
            G_SET: self._g_set,
            G_UPD: self._g_upd,
            **self._queries.requests,
        }

    # ---- the own node

    def start(self, own: Database, counter: int) -> None:
        """Keep the directory from now on, with `own` as this node's entries."""
        self._counter = counter
        self._emit(self.directory.replace(self._id, own))
        self._active = True
        for node_id in self._ground.up_nodes():
            self.node_up(node_id)
        for node_id in sorted(self.globals):
            self._meet(node_id)

    def set_own(self, family: str, changed: Family, deleted: list[str]) -> None:
        """Change this node's entries in a family."""
        self._change_reported(self._id, family, changed, deleted)

    def again(self, own: Database) -> None:
        """`Backbone.again`: `own` are this node's entries, besides what is noted of other global nodes."""
        owners = {self._id, *self.globals, *self._perl_slaves, *self.claims.owners()}
        self.directory.rebuild(owners, own, noted=(GLOBALS, ADDRESSES))
        self._counter += 1
        for node_id in sorted(self.globals):
            self._meet(node_id)
        self._queries.again()
        self._unattached.seed_lost()
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = None  # it may have fired, and been struck
        self._watch_expiry()

    def stop(self) -> None:
        """Stop, as this node ends."""
        self._unattached.stop()
        if self._expiry is not None:
            self._expiry.cancel()

    # ---- meeting and parting

    def node_up(self, node_id: str) -> None:
        """Handle the connection of a node; one that is relayed is no neighbour."""
        if self.claims.lives(node_id, self._ground.incarnation_of(node_id)):
            self._tell_gmp(WANT, node_id)
        if self._active and self._ground.is_linked(node_id):
            self._ground.request(node_id, G_GLOBAL)

    def met_global(self, sender: str) -> None:
        """Handle ``g_global``: the sender keeps the directory too, and speaks for others, so not every node is believed.

        race: it says so before this node does (it is noted), or before it is known to be a configured seed (`trusted`).
        """
        if not self._ground.may_be_seed(sender):
            self._untrusted.add(sender)
            return
        self.globals.add(sender)
        if not self._active:
            return
        if sender in self._perl_slaves:
            self._replace_reported(sender, {})
            self._perl_slaves.discard(sender)
        self._slaves.discard(sender)
        self._give_up(sender, ended=False)
        self._meet(sender)

    def trusted(self, node_id: str) -> None:
        """Believe a node that turns out to be one of the configured seeds."""
        if node_id in self._untrusted:
            self._untrusted.discard(node_id)
            self.met_global(node_id)

    def _meet(self, node_id: str) -> None:
        if self._ground.admits(node_id, SET):
            owners = [self._id, *self.claims.claimed_by(self._id)]
            report = {owner: [*self._version(owner), self._shown(node_id, owner)] for owner in owners}
            self._ground.request(node_id, SET, report)
        else:
            self._perl_globals.meet(node_id)
        self._note_global(node_id)

    def _note_global(self, node_id: str) -> None:
        """Note a global node and where it listens among the own entries, so that all global nodes learn of all."""
        self.set_own(GLOBALS, {node_id: None}, [])
        addresses = self.directory.shard(node_id).get(ADDRESSES, {}).get(node_id)
        if addresses is not None and self.directory.shard(self._id).get(ADDRESSES, {}).get(node_id) != addresses:
            self.set_own(ADDRESSES, {node_id: addresses}, [])

    def node_down(self, node_id: str, *, ended: bool) -> None:
        """Handle the loss of a node; `ended`: it left, or its process was seen to end."""
        self._queries.node_down(node_id)
        self._unattached.node_down(node_id)
        self._untrusted.discard(node_id)
        if node_id in self._perl_slaves:
            self._replace_reported(node_id, {})
            self._perl_slaves.discard(node_id)
        self._slaves.discard(node_id)
        self._give_up(node_id, ended=ended)
        self._perl_globals.sync_about(node_id)
        if node_id in self.globals:
            self._recall(self.claims.seed_lost(node_id, self._ground.now()))
            self._unattached.seed_lost()
            if self._active:
                self.set_own(GLOBALS, {}, [node_id])
                self.set_own(ADDRESSES, {}, [node_id])
            self.globals.discard(node_id)
        if node_id not in self.claims:
            self._emit(self.directory.drop(node_id))  # a Perl global node's
        elif ended and self.claims.end(node_id, self._ground.incarnation_of(node_id), now=self._ground.now()):
            self._emit(self.directory.drop(node_id))
        self._watch_expiry()

    def _recall(self, owners: Iterable[str]) -> None:
        """Let those attach again whom nobody claims any more, though they have attached here, and are connected.

        race: the last words of a former incarnation came so late to another seed that it took that for the one that lives,
        and claimed it; the node itself was told of nothing.
        """
        for owner in owners:
            if owner in self._slaves and self.claims.claimant(owner) is None:
                self._ground.request(owner, WANT, owner)

    def _give_up(self, owner: str, *, ended: bool) -> None:
        """Release a gmp slave that is no longer attached here."""
        if self.claims.claimant(owner) == self._id:
            version = self.claims.version(owner)
            self._tell_gmp(RELEASE, owner, *version, ended)
            if ended:
                self._drop(owner)
            self.claims.release(owner, version, ended=ended, now=self._ground.now())
            self._perl_globals.sync_about(owner)
            self._watch_expiry()

    def provisional(self, copies: Database) -> None:
        """Show what the former master had for the time of grace, until the reports of the other global nodes arrive."""
        self.claims.claim(FORMER, FORMER, ("", 0))
        self.claims.seed_lost(FORMER, self._ground.now())
        self._emit(self.directory.replace(FORMER, copies))
        self._watch_expiry()

    def _watch_expiry(self) -> None:
        due = self.claims.next_expiry()
        if due is None or (self._expiry is not None and self._expiry_due <= due):
            return  # the timer may fire for nothing; a new one at each change would cost more
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry, self._expiry_due = self._ground.later(max(0.0, due - self._ground.now()), self._expire), due

    def _expire(self) -> None:
        self._expiry = None
        expired = self.claims.expire(self._ground.now())
        for owner, _ in expired:
            self._drop(owner)
        for owner, reporter in [*expired, *self.claims.forget_ends(self._ground.now())]:
            if reporter is not None and reporter != self._id:
                self._ground.request(reporter, WANT, owner)
        self._watch_expiry()

    # ---- what others are told

    def _version(self, owner: str) -> Version:
        return (self._ground.incarnation, self._counter) if owner == self._id else self.claims.version(owner)

    def _shown(self, node_id: str, owner: str) -> Database:
        """Return an owner's entries as `node_id` may see them; the own ones with those of Perl slaves."""
        owners = [self._id, *sorted(self._perl_slaves)] if owner == self._id else [owner]
        return self._border.shown_database(node_id, self.directory.merged_database(owners))

    def _told_perl(self) -> list[str]:
        """Return the owners of which Perl global nodes are told."""
        return [self._id, *self._perl_slaves, *self.claims.claimed_by(self._id)]

    def _is_told_perl(self, owner: str) -> bool:
        return self._is_reported(owner) or self.claims.claimant(owner) == self._id

    def _is_reported(self, owner: str) -> bool:
        return owner == self._id or owner in self._perl_slaves

    def _tell_gmp(self, name: str, owner: str, *args: Any) -> None:
        for node_id in self._gmp_globals():
            self._ground.request(node_id, name, owner, *args)

    def _gmp_globals(self) -> list[str]:
        return [node_id for node_id in sorted(self.globals) if self._ground.admits(node_id, CHANGE)]

    def _tell_change(self, owner: str, family: str, changed: Family, deleted: list[str]) -> None:
        version = self._version(owner)
        for node_id in self._gmp_globals():
            shown = self._border.shown(node_id, family, changed)
            self._ground.request(node_id, CHANGE, owner, *version, family, shown, deleted)

    def _left_out(self, owner: str, family: str, count: int) -> None:
        text = f"{count} entries of {owner!r} in {family[:200]!r} are left out: over what one node may have, {self._limits}"
        self._ground.complain("too many entries", owner, text)

    def _emit(self, changes: list[Change]) -> None:
        """Tell subscribers and this node how the merged view has changed."""
        self._queries.tell(changes)
        if changes and self._active:
            self._changed(changes)

    # ---- changes of what this node reports

    def _change_reported(self, owner: str, family: str, changed: Family, deleted: list[str]) -> None:
        """Apply a change of a family by this node or a Perl slave."""
        keys = [*changed, *deleted]
        before = self.directory.picked(family, keys, self._is_reported)
        changes = self.directory.update(owner, family, changed, deleted)
        _, now_set, now_gone = difference(family, before, self.directory.picked(family, keys, self._is_reported))
        if now_set or now_gone:
            self._counter += 1
            self._tell_change(self._id, family, now_set, now_gone)
            self._perl_globals.sync(family, keys)
        self._emit(changes)

    def _replace_reported(self, owner: str, database: Database) -> None:
        for family in families_of(self.directory.shard(owner), database):
            old, new = self.directory.shard(owner).get(family, {}), database.get(family, {})
            _, changed, deleted = difference(family, old, new)
            if changed or deleted:
                self._change_reported(owner, family, changed, deleted)

    def _replace(self, owner: str, database: Database) -> None:
        """Replace all entries of a gmp owner."""
        for family in families_of(self.directory.shard(owner), database):
            old, new = self.directory.shard(owner).get(family, {}), database.get(family, {})
            self._apply(owner, *difference(family, old, new))

    def _apply(self, owner: str, family: str, changed: Family, deleted: list[str]) -> None:
        self._emit(self.directory.update(owner, family, changed, deleted))
        self._perl_globals.sync(family, [*changed, *deleted])

    def _drop(self, owner: str) -> None:
        self._replace(owner, {})

    # ---- requests of gmp nodes

    def _attach(self, sender: str, incarnation: Any, counter: Any, database: Any, *_: Any) -> None:
        version = self._version_of(sender, sender, incarnation, counter)
        shard = self._border.heard_database(sender, sender, database)
        if version is not None and self._active and sender not in self.globals:
            self._slaves.add(sender)
            self._take(sender, self._id, version, shard)

    def _take(self, owner: str, seed: str, version: Version, database: Database) -> None:
        """Handle the claim of `seed` on `owner`."""
        was_mine = self.claims.version(owner) if self.claims.claimant(owner) == self._id else None
        if not self.claims.claim(owner, seed, version):
            self._watch_expiry()
            return
        self._replace(owner, database)
        self._perl_globals.sync_about(owner)
        if seed == self._id:
            for node_id in self._gmp_globals():
                self._ground.request(node_id, CLAIM, owner, *version, self._shown(node_id, owner))
        elif was_mine is not None:
            self._tell_gmp(RELEASE, owner, *was_mine, False)
        self._watch_expiry()

    def _version_of(self, sender: str, owner: object, incarnation: object, counter: object) -> Version | None:
        """Return a version as `sender` told it; None if unusable. A node that is connected lives, whatever its clock."""
        if not isinstance(owner, str) or not isinstance(incarnation, str) or not isinstance(counter, int):
            return None
        if abs(counter) >= MOST_COUNTED:
            return None
        living = incarnation if owner == sender else ""
        if self._ground.is_linked(owner):
            living = self._ground.incarnation_of(owner)
        return self.claims.rank(owner, incarnation, living), counter

    def _update(self, sender: str, counter: Any, family: Any, changed: Any, deleted: Any, *_: Any) -> None:
        if not isinstance(counter, int) or not isinstance(family, str) or self.claims.claimant(sender) != self._id:
            return
        incarnation, _before = self.claims.version(sender)
        if self.claims.change(sender, self._id, (incarnation, counter)) is not Step.APPLY:
            return
        entries = self._border.heard(sender, sender, family, changed)
        keys = clean_keys(deleted)
        self._tell_change(sender, family, entries, keys)
        self._apply(sender, family, entries, keys)

    def _from_global(self, sender: str, owner: Any) -> bool:
        return self._active and sender in self.globals and isinstance(owner, str) and owner != self._id

    def _set(self, sender: str, report: Any, *_: Any) -> None:
        if not self._from_global(sender, ""):
            return
        orphans = self.claims.seed_lost(sender, self._ground.now())
        for owner, entry in report.items() if isinstance(report, dict) else ():
            if isinstance(entry, list | tuple) and len(entry) >= 3:
                self._claim(sender, owner, *entry[:3])
        self._recall(orphans)
        self._watch_expiry()

    def _claim(self, sender: str, owner: Any, incarnation: Any, counter: Any, database: Any, *_: Any) -> None:
        version = self._version_of(sender, owner, incarnation, counter)
        if version is not None and self._from_global(sender, owner):
            shard = self._border.heard_database(sender, owner, database)
            self._take(owner, sender, version, shard)
            if owner == sender:
                self._note_global(sender)

    def _change(
        self, sender: str, owner: Any, incarnation: Any, counter: Any, family: Any, changed: Any, deleted: Any, *_: Any
    ) -> None:
        version = self._version_of(sender, owner, incarnation, counter)
        if version is None or not isinstance(family, str) or not self._from_global(sender, owner):
            return
        step = self.claims.change(owner, sender, version)
        if step is Step.ASK:
            self._ground.request(sender, WANT, owner)
        elif step is Step.APPLY:
            entries = self._border.heard(sender, owner, family, changed)
            self._apply(owner, family, entries, clean_keys(deleted))
            if owner == sender and family == ADDRESSES:
                self._note_global(sender)

    def _release(self, sender: str, owner: Any, incarnation: Any, counter: Any, ended: Any, *_: Any) -> None:
        version = self._version_of(sender, owner, incarnation, counter)
        if version is None or not self._from_global(sender, owner):
            return
        # race: the other seed saw the end of its connection, but ours with that node lives: it is not gone
        really = bool(ended) and not self._ground.is_linked(owner)
        if self.claims.release(owner, version, ended=really, now=self._ground.now()):
            self._drop(owner)
        self._recall([owner])
        self._watch_expiry()

    def want(self, sender: str, owner: Any) -> None:
        """Handle ``gmp.want`` of another global node."""
        if self._from_global(sender, "") and (owner == self._id or self.claims.claimant(owner) == self._id):
            self._ground.request(sender, CLAIM, owner, *self._version(owner), self._shown(sender, owner))

    # ---- requests of Perl nodes

    def perl_client(self, sender: str) -> None:
        """Handle ``g_slave``: a node takes this one for a seed. A gmp node looks after its master itself."""
        if not self._ground.incarnation_of(sender):
            self._unattached.node_up(sender)

    def _is_attached(self, node_id: str) -> bool:
        """Return whether any seed reports a Perl node; a global one is its own master."""
        return node_id in (*self._perl_slaves, *self.globals) or self.directory.lookup(ADDRESSES, node_id) is not None

    def perl_slave(self, sender: str, database: Any) -> None:
        """Handle ``g_slave`` with a database: a Perl node is attached here."""
        if sender not in self.globals:
            self._perl_slaves.add(sender)
            shard = self._border.heard_database(sender, sender, database)
            self._replace_reported(sender, shard)

    def _g_set(self, sender: str, database: Any = None, *_: Any) -> None:
        if self._active and sender in self.globals and not self._ground.admits(sender, SET):
            shard = self._border.heard_database(sender, sender, database)
            self._emit(self.directory.replace(sender, shard))
            self._note_global(sender)

    def _g_upd(self, sender: str, family: Any, changed: Any = None, deleted: Any = None, *_: Any) -> None:
        if not self._active or not isinstance(family, str):
            return
        entries = self._border.heard(sender, sender, family, changed)
        keys = clean_keys(deleted)
        if sender in self.globals:
            self._emit(self.directory.update(sender, family, entries, keys))
        elif self.claims.claimant(sender) != self._id:
            self._perl_slaves.add(sender)
            self._change_reported(sender, family, entries, keys)
