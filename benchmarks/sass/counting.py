"""What is counted of a kernel: its instructions by class, along the paths through its main loop."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .control_flow import Block, Instruction, best_path, kernels_of, loops_of, once_around, outermost

# By operation; of the uniform datapath's the U in front is left off. CS2R is a move of zeros. What is not here is
# "other": constants, special registers, shuffles and votes.
CLASSES = {
    "fp32": "FADD FMUL FFMA FMNMX FMNMX3 FSEL FSETP FSET FCHK FADD2 FMUL2 FFMA2 HADD2 HMUL2 HFMA2 HMNMX2 HSETP2 HSET2",
    "fp64": "DADD DMUL DFMA DSETP DMNMX",
    "conversion": "F2F F2I F2FP F2IP FRND I2F I2FP I2I I2IP",
    "integer": (
        "IADD IADD3 IADD32I IMAD IMUL ISCADD ISETP IMNMX IABS IDP IDP4A LEA LOP LOP3 SHF SHL SHR SEL PRMT MOV MOV32I "
        "CS2R VIADD VIADDMNMX VIMNMX VIMNMX3 VABSDIFF POPC FLO BREV BMSK SGXT PLOP3 PSETP P2R R2P CLEA P2UR R2UR"
    ),
    "special": "MUFU",
    "global": "LD ST LDG STG LDGSTS ATOM ATOMG RED REDG CCTL",
    "shared": "LDS STS ATOMS LDSM",
    "local": "LDL STL",
    "control": (
        "BRA BRX JMP JMX CALL RET EXIT BREAK BSSY BSYNC BMOV BAR DEPBAR MEMBAR ERRBAR WARPSYNC ENDCOLLECTIVE YIELD "
        "NANOSLEEP KILL BPT"
    ),
}
OTHER = "other"
_CLASS_OF = {name: kind for kind, operations in CLASSES.items() for name in operations.split()}


@dataclass(frozen=True)
class Path:
    """One way through the main loop's body.

    Args:
        instructions: how many.
        classes: how many of each class that occurs.
        calls: how often each function that is not inlined is called; its own instructions are not among these.
    """

    instructions: int
    classes: dict[str, int]
    calls: dict[str, int]


@dataclass(frozen=True)
class MainLoop:
    """What a thread does again and again.

    Args:
        instructions: of the whole body, all branches.
        inner_loops: how many loops are in it; a path holds the body of each once at most.
        largest_blocks: instructions of the largest basic blocks; where a path avoids code, it still shows here.
        shortest: the path with the fewest instructions, often that of pixels that do not count.
        computing: the shortest through the block with the most arithmetic: the least that a pixel's loss may take.
        longest: the path with the most instructions.
    """

    instructions: int
    inner_loops: int
    largest_blocks: list[int]
    shortest: Path
    computing: Path
    longest: Path


@dataclass(frozen=True)
class KernelCode:
    """One instance of a kernel.

    Args:
        registers: of a thread.
        stack: bytes of a thread in local memory.
        shared: bytes of a block, with what the system keeps for itself.
        spills: loads from and stores to local memory, anywhere in the code.
        instructions: of the kernel itself.
        functions: instructions of each function that is not inlined.
        loop: the main loop, or why there is none.
    """

    registers: int
    stack: int
    shared: int
    spills: int
    instructions: int
    functions: dict[str, int]
    loop: MainLoop | str


@dataclass(frozen=True)
class Resources:
    """What a thread takes besides time."""

    registers: int
    stack: int
    shared: int


def class_of(instruction: Instruction) -> str:
    """The class that an instruction is counted in."""
    if instruction.opcode == "HADD2.F32":  # of a half and nothing: float16 to float32
        return "conversion"
    name = instruction.operation
    return _CLASS_OF.get(name) or _CLASS_OF.get(name.removeprefix("U"), OTHER)


def count_kernel(blocks: list[Block], resources: Resources) -> KernelCode:
    """Everything about one kernel; labels of functions are left as they are."""
    sizes: Counter[str] = Counter()
    for block in blocks:
        sizes[block.function] += len(block.instructions)
    of_itself = sizes.pop("", 0)
    spills = sum(class_of(instruction) == "local" for block in blocks for instruction in block.instructions)
    return KernelCode(
        resources.registers, resources.stack, resources.shared, spills, of_itself, dict(sizes), _main_loop(blocks)
    )


def count_kernels(text: str, resources: dict[str, Resources]) -> dict[str, KernelCode]:
    """All kernels of what nvdisasm printed, by their mangled names."""
    return {name: count_kernel(blocks, resources[name]) for name, blocks in kernels_of(text).items()}


def _main_loop(blocks: list[Block]) -> MainLoop | str:
    """The largest of the outermost loops in which global memory is read or written."""
    loops = loops_of(blocks)
    found = [
        (sum(len(blocks[number].instructions) for number in loop.body), loop)
        for loop in outermost(loops)
        if any(class_of(each) == "global" for number in loop.body for each in blocks[number].instructions)
    ]
    if not found:
        return "no loop in which global memory is read or written"
    instructions, loop = max(found, key=operator.itemgetter(0))
    inner = [other for other in loops if other.body < loop.body]
    graph = once_around(blocks, loop, inner)
    ends = {number for number in loop.body if loop.header in blocks[number].successors}
    arithmetic = max(sorted(loop.body), key=lambda number: _arithmetic(blocks[number]))
    towards = best_path(blocks, graph, loop.header, {arithmetic}, operator.lt)
    return MainLoop(
        instructions,
        len(inner),
        sorted((len(blocks[number].instructions) for number in loop.body), reverse=True)[:5],
        _path(blocks, best_path(blocks, graph, loop.header, ends, operator.lt)),
        _path(blocks, [*towards, *best_path(blocks, graph, arithmetic, ends, operator.lt)[1:]]),
        _path(blocks, best_path(blocks, graph, loop.header, ends, operator.gt)),
    )


def _arithmetic(block: Block) -> int:
    return sum(class_of(instruction) in ("fp32", "fp64", "special") for instruction in block.instructions)


def _path(blocks: list[Block], numbers: Iterable[int]) -> Path:
    instructions = [instruction for number in numbers for instruction in blocks[number].instructions]
    found = Counter(class_of(instruction) for instruction in instructions)
    calls = Counter(
        label for each in instructions if each.operation == "CALL" for label in each.targets or ["a pointer"]
    )
    return Path(len(instructions), {kind: found[kind] for kind in [*CLASSES, OTHER] if found[kind]}, dict(calls))
