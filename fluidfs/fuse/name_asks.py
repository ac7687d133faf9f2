"""What the native data plane asks about names: answered, and taught, so that it need not ask again."""

from __future__ import annotations

from collections.abc import Sequence

from fluidfs._native.relay import Ask, Relay
from fluidfs.errors import NameNotFound
from fluidfs.fuse.tickets import Tickets
from fluidfs.meta.names import Names
from fluidfs.meta.nodes import NativeNodes


class NameAsks:
    """Answers LOOKUP and OPENDIR, and renews listings that are in use. Belongs to one trio run.

    A directory that is known whole is taught with the first question about it. One that is not (it is large, or nothing
    is remembered at all) is asked about name by name.
    """

    def __init__(self, relay: Relay, tickets: Tickets, *, names: Names, nodes: NativeNodes) -> None:
        self._relay = relay
        self._tickets = tickets
        self._names = names
        self._nodes = nodes
        # What was taught a moment ago: of many questions that came together the first one teaches.
        self._taught: dict[int, object] = {}

    async def lookup(self, ask: Ask) -> None:
        """What `name` in directory `node` is."""
        with self._tickets.failing("lookup", [ask]):
            directory = self._nodes.directory(ask.node)
            name = ask.name.decode("utf-8", "surrogateescape")
            try:
                place = await self._names.locate(directory, name)
            except NameNotFound:
                self._teach(ask.node, directory)
                self._relay.missing(ask.ticket, good_for_s=self._names.good_for_s(directory))
                return
            self._teach(ask.node, directory)
            good_for_s = self._names.good_for_s(directory)
            self._relay.found(ask.ticket, place.listing, place.position, good_for_s=good_for_s)

    async def directory(self, node: int, asks: Sequence[Ask]) -> None:
        """The whole listing of a directory."""
        with self._tickets.failing("opendir", asks):
            directory = self._nodes.directory(node)
            listing = await self._names.listing(directory)
            self._teach(node, directory)
            for ask in asks:
                self._relay.directory(ask.ticket, listing, good_for_s=self._names.good_for_s(directory))

    async def renew(self, node: int) -> None:
        """Learns a directory anew that is about to expire. A fault is told to whoever wants the names then."""
        with self._tickets.failing("renewal", []):
            directory = self._nodes.directory(node)
            await self._names.renew(directory)
            self._taught.pop(node, None)
            self._teach(node, directory)

    def forget_path(self, path: str) -> None:
        """The object at `path` changed, and the names have forgotten it: so must the relay and the kernel."""
        directory, _, name = path.rpartition("/")
        node = self._nodes.at(directory)
        if node is None:
            return
        self._taught.pop(node, None)
        self._nodes.expire(node)
        self._relay.forget_name(node, name.encode("utf-8", "surrogateescape"))

    def settle(self) -> None:
        """Once in a while: the moment is over."""
        self._taught.clear()

    def _teach(self, node: int, directory: str) -> None:
        listing, good_for_s = self._names.known(directory), self._names.good_for_s(directory)
        if listing is None or good_for_s <= 0 or self._taught.get(node) is listing:
            return
        self._taught[node] = listing
        try:
            self._relay.learn(node, listing, good_for_s=good_for_s, due_in_s=self._names.due_in_s(directory))
        except OSError:
            # The kernel has forgotten the directory meanwhile.
            del self._taught[node]
