"""From a kernel's machine code, as nvdisasm prints it, to its loops and the paths through them."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_SECTION = re.compile(r"\s*\.section\s+\.text\.([^,\s]+)")
_LABEL = re.compile(r"(\S+):$")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:(@\S+)\s+)?([A-Z]\w*(?:\.\w+)*)\s*(.*?)\s*;?$")
_NAMED = re.compile(r"`\((.+?)\)$")
_TABLE = re.compile(r"BRANCH_TARGETS ([^\"]+)\"")

Graph = dict[int, list[int]]  # by number of the block


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``IMAD.WIDE.U32`` is the operation IMAD and its modifiers."""

    opcode: str
    operands: str
    predicated: bool

    @property
    def operation(self) -> str:
        return self.opcode.partition(".")[0]

    @property
    def jumps(self) -> bool:
        # To where a warp goes that is not converged, BRA.DIV, there is only the same work once more.
        return self.operation in ("BRA", "BRX", "JMP", "JMX") and ".DIV" not in self.opcode

    @property
    def targets(self) -> list[str]:
        """The labels that it may jump to; of a call the function's."""
        table = _TABLE.search(self.operands)
        if table is not None:
            return table[1].split(",")
        named = _NAMED.search(self.operands)
        return [named[1]] if named is not None else []

    @property
    def ends_here(self) -> bool:
        """Whether what stands below is not next, whatever the predicates are."""
        if self.predicated:
            return False
        if self.jumps:  # `BRA P1, label` and `BRA.U UP0, label` have a condition, too
            return self.operation != "BRA" or _NAMED.match(self.operands) is not None
        return self.operation in ("EXIT", "RET")


@dataclass
class Block:
    """Instructions of which the first alone is jumped to, and the last alone jumps."""

    function: str  # "" of the kernel itself, else the label of a function that is not inlined
    instructions: list[Instruction] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Loop:
    """A natural loop: where it begins, and all its blocks."""

    header: int
    body: frozenset[int]


def kernels_of(text: str) -> dict[str, list[Block]]:
    """The basic blocks of every kernel, by its mangled name; the first block is where it begins."""
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        section = _SECTION.match(line)
        if section is not None:
            lines = sections[section[1]] = []
        elif sections:
            lines.append(line)
    return {name: _blocks(name, lines) for name, lines in sections.items()}


def _blocks(kernel: str, lines: Iterable[str]) -> list[Block]:
    blocks: list[Block] = []
    places: dict[str, int] = {}  # labels
    function, begin = "", True
    for line in lines:
        label, match = _LABEL.match(line), _INSTRUCTION.match(line)
        if label is not None:
            if not label[1].startswith(".") and label[1] != kernel:
                function = label[1]
            places[label[1]], begin = len(blocks), True  # the block that comes next
        elif match is not None and match[2] != "NOP":  # which fills up the end
            if begin:
                blocks.append(Block(function))
            instruction = Instruction(match[2], match[3], match[1] is not None)
            blocks[-1].instructions.append(instruction)
            begin = instruction.jumps or instruction.operation in ("EXIT", "RET")
    for number, block in enumerate(blocks):
        last = block.instructions[-1]
        targets = [places[label] for label in last.targets if label in places] if last.jumps else []
        below = [] if last.ends_here or number + 1 == len(blocks) else [number + 1]
        block.successors = [target for target in dict.fromkeys([*targets, *below]) if target < len(blocks)]
    return blocks


def loops_of(blocks: list[Block]) -> list[Loop]:
    """The natural loops of what the kernel reaches from its first block; those with the same header are one."""
    graph = {number: block.successors for number, block in enumerate(blocks)}
    order = _in_order(graph, 0)
    above = _dominators(graph, order)
    before = _reversed(graph, order)
    bodies: dict[int, set[int]] = {}
    for latch in order:
        for header in graph[latch]:
            if header in _walk_up(above, latch):
                body = bodies.setdefault(header, {header})
                waiting = [latch]
                while waiting:
                    number = waiting.pop()
                    if number not in body:
                        body.add(number)
                        waiting += before[number]
    return [Loop(header, frozenset(body)) for header, body in bodies.items()]


def outermost(loops: Iterable[Loop]) -> list[Loop]:
    """The loops that are part of no other."""
    listed = list(loops)
    return [loop for loop in listed if not any(loop.body < other.body for other in listed)]


def _in_order(graph: Mapping[int, list[int]], start: int) -> list[int]:
    """What is reached from ``start``, every block before those behind it unless they are of one loop."""
    found: list[int] = []
    seen = {start}
    stack: list[tuple[int, Iterator[int]]] = [(start, iter(graph[start]))]
    while stack:
        number, rest = stack[-1]
        for successor in rest:
            if successor not in seen:
                seen.add(successor)
                stack.append((successor, iter(graph[successor])))
                break
        else:
            found.append(number)
            stack.pop()
    return found[::-1]


def _reversed(graph: Mapping[int, list[int]], order: list[int]) -> Graph:
    found: Graph = {number: [] for number in order}
    for number in order:
        for successor in graph[number]:
            found[successor].append(number)
    return found


def _dominators(graph: Mapping[int, list[int]], order: list[int]) -> dict[int, int]:
    """The nearest block that every way to a block leads through (Cooper, Harvey and Kennedy 2001)."""
    rank = {number: place for place, number in enumerate(order)}
    before = _reversed(graph, order)
    above = {order[0]: order[0]}
    changed = True
    while changed:
        changed = False
        for number in order[1:]:
            found = [other for other in before[number] if other in above]
            nearest = found[0]
            for other in found[1:]:
                while nearest != other:
                    if rank[nearest] > rank[other]:
                        nearest = above[nearest]
                    else:
                        other = above[other]
            if above.get(number) != nearest:
                above[number], changed = nearest, True
    return above


def _walk_up(above: Mapping[int, int], number: int) -> Iterator[int]:
    """A block and all its dominators."""
    yield number
    while above[number] != number:
        number = above[number]
        yield number


def once_around(blocks: list[Block], loop: Loop, inner: Iterable[Loop]) -> Graph:
    """The loop's blocks without ways back: from where an inner loop would go round, out of it instead.

    So a path holds the body of an inner loop once, or, where it is left at its top, perhaps not at all.
    """
    graph = {number: [s for s in blocks[number].successors if s in loop.body] for number in loop.body}
    for number, successors in graph.items():
        graph[number] = [successor for successor in successors if successor != loop.header]
    for other in inner:
        if not other.body < loop.body:
            continue
        exits = {s for number in other.body for s in blocks[number].successors if s in loop.body - other.body}
        exits.discard(loop.header)
        for number in other.body:
            if other.header in blocks[number].successors:
                rest = [successor for successor in graph[number] if successor != other.header]
                graph[number] = list(dict.fromkeys([*rest, *sorted(exits)]))
    # What is left of a way back belongs to no natural loop; it is left out.
    place = {number: at for at, number in enumerate(_in_order(graph, loop.header))}
    return {number: [s for s in graph[number] if place[s] > place[number]] for number in place}


def best_path(
    blocks: list[Block], graph: Graph, start: int, ends: Container[int], better: Callable[[int, int], bool]
) -> list[int]:
    """The path from ``start`` to one of ``ends`` that has the best number of instructions."""
    best: dict[int, tuple[int, int | None]] = {start: (len(blocks[start].instructions), None)}
    arrived: list[int] = []
    for number in _in_order(graph, start):
        if number in ends:
            arrived.append(number)
        for successor in graph[number]:
            length = best[number][0] + len(blocks[successor].instructions)
            if successor not in best or better(length, best[successor][0]):
                best[successor] = (length, number)
    end = arrived[0]
    for other in arrived[1:]:
        end = other if better(best[other][0], best[end][0]) else end
    path = [end]
    while (above := best[path[-1]][1]) is not None:
        path.append(above)
    return path[::-1]
