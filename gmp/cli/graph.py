"""The connections of a network, and three ways to draw them: a tree of text, Graphviz's dot, and SVG.

Either end reports a connection; nodes that report nothing (Perl's, or lost ones) are known from the others' answers. The
tree spans each part of the network breadth first from its first seed; a connection outside the tree is shown behind the
later of its two nodes as "also".
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from gmp.cli.common.access import is_command
from gmp.cli.common.show import safe
from gmp.cli.common.survey import NOT_GMP, Answer

Edge = tuple[str, str]


@dataclass
class Graph:
    """The nodes and their connections."""

    kinds: dict[str, str] = field(default_factory=dict)  #: node ID → seed, node, "no gmp" or "no answer"
    edges: set[Edge] = field(default_factory=set)  #: the smaller node ID first
    busy: set[str] = field(default_factory=set)
    unix: set[Edge] = field(default_factory=set)  #: of the edges, those that are Unix sockets
    _ends: dict[str, set[str]] = field(default_factory=dict)

    def neighbours(self, node_id: str) -> list[str]:
        """Return the nodes connected to that one, seeds first."""
        return sorted(self._ends.get(node_id, ()), key=self.rank)

    def connect(self, a: str, b: str) -> None:
        """Add a connection between the two."""
        self.edges.add((min(a, b), max(a, b)))
        self._ends.setdefault(a, set()).add(b)
        self._ends.setdefault(b, set()).add(a)

    def is_unix(self, a: str, b: str) -> bool:
        """Return whether the two are connected by a Unix socket."""
        return (min(a, b), max(a, b)) in self.unix

    def rank(self, node_id: str) -> tuple[bool, str]:
        """Return the key to sort a node by: seeds come first."""
        return self.kinds.get(node_id) != "seed", node_id

    def roots_and_parents(self) -> tuple[list[str], dict[str, str]]:
        """Return the spanning trees: the root of each part, and the parent of every other node."""
        roots: list[str] = []
        parents: dict[str, str] = {}
        seen: set[str] = set()
        for root in sorted(self.kinds, key=self.rank):
            if root in seen:
                continue
            roots.append(root)
            seen.add(root)
            waiting = deque([root])
            while waiting:
                node_id = waiting.popleft()
                for other in self.neighbours(node_id):
                    if other not in seen:
                        seen.add(other)
                        parents[other] = node_id
                        waiting.append(other)
        return roots, parents


def make_graph(answers: dict[str, Answer]) -> Graph:
    """Return the graph of the nodes' answers, without commands such as the one that asked."""
    graph = Graph({node_id: _kind(answer) for node_id, answer in answers.items()})
    for node_id, answer in answers.items():
        told = answer.data.get("connections")
        for connection in told if isinstance(told, list | tuple) else ():
            other = str(connection.get("node_id", "")) if isinstance(connection, dict) else ""
            if other and not is_command(other):
                graph.kinds.setdefault(other, "?")
                graph.connect(node_id, other)
                if connection.get("busy"):
                    graph.busy.add(other)
                if connection.get("transport") == "unix":
                    graph.unix.add((min(node_id, other), max(node_id, other)))
        for other in answer.values or ():  # a Perl node's
            if other and other != node_id and not is_command(other):
                graph.kinds.setdefault(other, "?")
                graph.connect(node_id, other)
    return graph


def _kind(answer: Answer) -> str:
    if answer.problem:
        return "no gmp" if answer.problem == NOT_GMP else "no answer"
    return "seed" if answer.data.get("seed") else "node"


def tree(graph: Graph, width: int, *, ascii_only: bool = False) -> list[str]:
    """Return the lines of the tree, none wider than `width`."""
    roots, parents = graph.roots_and_parents()
    children: dict[str, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    order = {node_id: place for place, node_id in enumerate([*roots, *parents])}
    bars = ("|-- ", "`-- ", "|   ", "    ") if ascii_only else ("├── ", "└── ", "│   ", "    ")
    lines: list[str] = []

    def also(node_id: str) -> list[str]:
        related = {parents.get(node_id), *children.get(node_id, ())}
        return [other for other in graph.neighbours(node_id) if other not in related and order[other] < order[node_id]]

    def write(node_id: str, lead: str, below: str) -> None:
        lines.append(_line(lead, node_id, graph, parents.get(node_id), also(node_id), width))
        found = children.get(node_id, [])
        for place, child in enumerate(found):
            last = place == len(found) - 1
            write(child, below + bars[last], below + bars[2 + last])

    for root in roots:
        write(root, "", "")
    return lines


def _line(lead: str, node_id: str, graph: Graph, parent: str | None, also: list[str], width: int) -> str:
    marks = [graph.kinds[node_id]] if graph.kinds[node_id] not in ("node", "?") else []
    marks += ["busy"] if node_id in graph.busy else []
    marks += ["unix"] if parent is not None and graph.is_unix(node_id, parent) else []
    line = lead + node_id + (f" ({', '.join(marks)})" if marks else "")
    if also:
        line += "  also: "
        for place, other in enumerate(also):
            more = f" and {len(also) - place} more"
            room = width - len(line) - (len(more) if place < len(also) - 1 else 0)
            if place and len(other) + 2 > room:
                line += more
                break
            line += (", " if place else "") + other
    return line if len(line) <= width else line[: width - 1] + "…"


def dot(graph: Graph) -> str:
    """Return the graph in Graphviz's language."""
    lines = ["graph gmp {", "  node [shape=ellipse];"]
    for node_id in sorted(graph.kinds, key=graph.rank):
        style = {"seed": "shape=box, style=filled", "no answer": "style=dashed", "no gmp": "style=dotted"}
        attributes = style.get(graph.kinds[node_id], "")
        if node_id in graph.busy:
            attributes += (", " if attributes else "") + "color=orange"
        lines.append(f"  {_quoted(node_id)}" + (f" [{attributes}]" if attributes else "") + ";")
    for a, b in sorted(graph.edges):
        lines.append(f"  {_quoted(a)} -- {_quoted(b)}{' [label=unix]' if graph.is_unix(a, b) else ''};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


COLOURS = {"seed": "#2f6f9f", "node": "#7fb069", "no answer": "#d1495b", "no gmp": "#8d6fb0", "?": "#aaaaaa"}


def svg(graph: Graph) -> str:
    """Return the graph as a picture: seeds on a circle in the middle, the others around them, each near its seed."""
    places, size = _places(graph)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]:.0f} {size[1]:.0f}" font-family="sans-serif"'
        ' font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for a, b in sorted(graph.edges):
        between_seeds = graph.kinds[a] == graph.kinds[b] == "seed"
        (x1, y1), (x2, y2) = places[a], places[b]
        lines.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
            f' stroke="{"#2f6f9f" if between_seeds else "#999999"}" stroke-width="{2.5 if between_seeds else 1.2}">'
            f"<title>{escape(safe(f'{a} – {b}'))}{': Unix socket' if graph.is_unix(a, b) else ''}</title></line>"
        )
    for node_id in sorted(graph.kinds, key=graph.rank):
        lines += _node_svg(graph, node_id, *places[node_id], size[0] / 2)
    return "\n".join([*lines, *_legend(graph, size[1]), "</svg>"])


def _places(graph: Graph) -> tuple[dict[str, tuple[float, float]], tuple[float, float]]:
    seeds = sorted(node_id for node_id, kind in graph.kinds.items() if kind == "seed")
    _, parents = graph.roots_and_parents()
    ring = {node_id: 2 * math.pi * place / max(len(seeds), 1) - math.pi / 2 for place, node_id in enumerate(seeds)}

    def side(node_id: str) -> float:
        seen = {node_id}
        while node_id not in ring and node_id in parents and parents[node_id] not in seen:
            node_id = parents[node_id]
            seen.add(node_id)
        return ring.get(node_id, 0.0)

    others = sorted(set(graph.kinds) - set(ring), key=lambda node_id: (side(node_id), node_id))
    inner = 0.0 if len(seeds) < 2 else 70 + 14 * len(seeds)
    outer = max(inner + 110, 14 * len(others))
    margin = 40 + 7.5 * max(map(len, graph.kinds), default=0)
    width, height = 2 * (outer + margin), 2 * outer + 130
    turn = -math.pi / 2 + (math.pi / max(len(others), 1) if len(seeds) < 2 else 0)
    places = {node_id: _at(width, height, inner, ring[node_id]) for node_id in seeds}
    for place, node_id in enumerate(others):
        places[node_id] = _at(width, height, outer, turn + 2 * math.pi * place / len(others))
    return places, (width, height)


def _at(width: float, height: float, radius: float, angle: float) -> tuple[float, float]:
    return width / 2 + radius * math.cos(angle), (height - 30) / 2 + radius * math.sin(angle)


def _node_svg(graph: Graph, node_id: str, x: float, y: float, middle: float) -> list[str]:
    kind, name = graph.kinds[node_id], safe(node_id)
    ring = ' stroke="#f2a541" stroke-width="4"' if node_id in graph.busy else ' stroke="white" stroke-width="1.5"'
    right = x >= middle - 1
    anchor, label = ("start", x + 15) if right else ("end", x - 15)
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{11 if kind == "seed" else 8}" fill="{COLOURS[kind]}"{ring}>'
        f"<title>{escape(name)}: {kind}</title></circle>",
        f'<text x="{label:.1f}" y="{y + 4.5:.1f}" text-anchor="{anchor}" stroke="white" stroke-width="4"'
        f' paint-order="stroke" id={quoteattr(name)}>{escape(name)}</text>',
    ]


def _legend(graph: Graph, height: float) -> list[str]:
    names: Iterable[str] = [kind for kind in COLOURS if kind in graph.kinds.values()]
    lines, x = [], 20.0
    for kind in names:
        lines.append(f'<circle cx="{x:.0f}" cy="{height - 18:.0f}" r="6" fill="{COLOURS[kind]}"/>')
        text = "only others tell of it" if kind == "?" else kind
        lines.append(f'<text x="{x + 11:.0f}" y="{height - 13.5:.0f}">{text}</text>')
        x += 40 + 8 * len(text)
    return lines


DRAWINGS: dict[str, Callable[[Graph], str]] = {"dot": dot, "svg": svg}
