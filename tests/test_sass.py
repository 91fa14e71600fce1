"""Counting machine instructions: the parser, loops and paths, on machine code written by hand; needs no nvcc."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.harness.environment import ROOT, compiler_flags
from benchmarks.harness.records import read, to_json
from benchmarks.sass import __main__, disassembly
from benchmarks.sass.control_flow import kernels_of, loops_of, outermost
from benchmarks.sass.counting import CLASSES, KernelCode, MainLoop, Resources, class_of, count_kernels
from benchmarks.sass.counting import Path as CodePath
from benchmarks.sass.disassembly import Names
from benchmarks.sass.report import PIXELS, SassReport, changes, is_listed, pixels_of, sass_markdown

RESULTS = sorted((ROOT / "benchmarks/results").glob("sass-*.json"))

# A loop over pixels, with a switch of two kinds of labels, a call, an inner loop left at its top and one left at its
# end; before it a small loop that reads memory, behind it a large one that does not.
SASS = """
	.target	sm_90

//--------------------- .text._Z1k --------------------------
	.section	.text._Z1k,"ax",@progbits
	.align	128
        .global         _Z1k
        .type           _Z1k,@function
_Z1k:
.text._Z1k:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   LDG.E R2, desc[UR4][R2.64] ;
        /*0020*/              @!P0 BRA `(.L_x_0) ;
.L_x_1:
        /*0030*/                   ISETP.GE.AND P0, PT, R0, R1, PT ;
        /*0040*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0050*/               @P0 BRA `(.L_x_5) ;
        /*0060*/                   BRX R2 -0x70                                    (*"BRANCH_TARGETS .L_x_2,.L_x_3"*);
.L_x_2:
        /*0070*/                   I2F.F64 R8, R4 ;
        /*0080*/                   BRA `(.L_x_4) ;
.L_x_3:
        /*0090*/                   MOV R20, 0xd0 ;
        /*00a0*/                   MUFU.RCP R6, R6 ;
        /*00b0*/                   CALL.REL.NOINC `($_Z1k$_Z8distance) ;
.L_x_4:
        /*00c0*/                   FFMA R4, R4, R4, R5 ;
        /*00d0*/                   FADD R4, R4, R5 ;
        /*00e0*/                   DADD R6, R6, R8 ;
.L_x_40:
        /*00f0*/                   UISETP.NE.AND UP0, UPT, UR6, URZ, UPT ;
        /*0100*/                   BRA.U UP0, `(.L_x_5) ;
        /*0110*/                   STS [R2], R3 ;
        /*0120*/                   LDS R3, [R2] ;
        /*0130*/                   BRA `(.L_x_40) ;
.L_x_5:
        /*0140*/                   STL [R1], R3 ;
        /*0150*/                   BRA P1, `(.L_x_5) ;
        /*0160*/                   BRA.DIV UR4, `(.L_x_9) ;
        /*0170*/                   SHFL.DOWN PT, R2, R2, 0x1, 0x1f ;
        /*0180*/              @!P0 BRA `(.L_x_1) ;
.L_x_6:
        /*0190*/                   IADD3 R1, R1, 0x1, RZ ;
        /*01a0*/                   IMAD.MOV.U32 R2, RZ, RZ, R1 ;
        /*01b0*/                   LOP3.LUT R3, R1, R2, RZ, 0xc0, !PT ;
        /*01c0*/               @P0 EXIT ;
        /*01d0*/                   BRA `(.L_x_6) ;
.L_x_9:
        /*01e0*/                   EXIT ;
        .weak           $_Z1k$_Z8distance
        .type           $_Z1k$_Z8distance,@function
$_Z1k$_Z8distance:
.L_x_10:
        /*01f0*/                   LD.E R2, [R2.64] ;
        /*0200*/              @!P0 BRA `(.L_x_10) ;
        /*0210*/                   RET.REL.NODEC R20 `(_Z1k) ;
.L_x_11:
        /*0220*/                   BRA `(.L_x_11);
        /*0230*/                   NOP;
.L_x_12:

//--------------------- .text._Z5plain --------------------------
	.section	.text._Z5plain,"ax",@progbits
_Z5plain:
.text._Z5plain:
        /*0000*/                   HADD2.F32 R1, -RZ, R1.H0_H0 ;
        /*0010*/                   EXIT ;
"""
RESOURCES = {"_Z1k": Resources(40, 8, 1024), "_Z5plain": Resources(8, 0, 0)}


@pytest.fixture
def kernel() -> KernelCode:
    return count_kernels(SASS, RESOURCES)["_Z1k"]


class TestControlFlow:
    def test_blocks(self) -> None:
        kernels = kernels_of(SASS)
        assert list(kernels) == ["_Z1k", "_Z5plain"]
        blocks = kernels["_Z1k"]
        assert [len(block.instructions) for block in blocks] == [1, 2, 3, 1, 2, 3, 3, 2, 3, 2, 3, 4, 1, 1, 2, 1, 1]
        assert blocks[2].successors == [9, 3]
        assert blocks[3].successors == [4, 5]
        assert blocks[4].successors == [6]
        assert blocks[5].successors == [6]  # a call comes back
        assert blocks[7].successors == [9, 8]  # the condition of BRA.U is an operand
        assert blocks[9].successors == [9, 10]  # so is that of BRA P1
        assert blocks[10].successors == [2, 11]  # the way of a warp that is not converged is not followed
        assert blocks[11].successors == [12]
        assert blocks[13].successors == []
        assert {block.function for block in blocks} == {"", "$_Z1k$_Z8distance"}

    def test_loops(self) -> None:
        loops = loops_of(kernels_of(SASS)["_Z1k"])
        assert {loop.header: set(loop.body) for loop in loops} == {
            1: {1},
            2: {2, 3, 4, 5, 6, 7, 8, 9, 10},
            7: {7, 8},
            9: {9},
            11: {11, 12},
        }
        assert {loop.header for loop in outermost(loops)} == {1, 2, 11}

    def test_a_loop_with_two_ways_in_is_none(self) -> None:
        text = """
	.section	.text.f,"ax",@progbits
f:
        /*0000*/               @P0 BRA `(.L_2) ;
.L_1:
        /*0010*/                   LDG.E R1, [R2.64] ;
.L_2:
        /*0020*/                   LDG.E R1, [R2.64] ;
        /*0030*/               @P0 BRA `(.L_1) ;
        /*0040*/                   EXIT ;
"""
        assert loops_of(kernels_of(text)["f"]) == []


class TestCounting:
    def test_what_a_kernel_takes(self, kernel: KernelCode) -> None:
        assert (kernel.registers, kernel.stack, kernel.shared) == (40, 8, 1024)
        assert kernel.spills == 1
        assert kernel.instructions == 31  # of which 5 are of the last loop, and 1 is behind it
        assert kernel.functions == {"$_Z1k$_Z8distance": 4}

    def test_paths_through_the_main_loop(self, kernel: KernelCode) -> None:
        assert kernel.loop == MainLoop(
            instructions=22,
            inner_loops=2,
            largest_blocks=[3, 3, 3, 3, 3],
            shortest=CodePath(8, {"integer": 1, "global": 1, "local": 1, "control": 4, "other": 1}, {}),
            computing=CodePath(
                16,
                {
                    "fp32": 2,
                    "fp64": 1,
                    "conversion": 1,
                    "integer": 2,
                    "global": 1,
                    "local": 1,
                    "control": 7,
                    "other": 1,
                },
                {},
            ),
            longest=CodePath(
                20,
                {
                    "fp32": 2,
                    "fp64": 1,
                    "integer": 3,
                    "special": 1,
                    "global": 1,
                    "shared": 2,
                    "local": 1,
                    "control": 8,
                    "other": 1,
                },
                {"$_Z1k$_Z8distance": 1},
            ),
        )

    def test_classes_of_a_path_are_all_of_it(self, kernel: KernelCode) -> None:
        assert isinstance(kernel.loop, MainLoop)
        for path in (kernel.loop.shortest, kernel.loop.computing, kernel.loop.longest):
            assert sum(path.classes.values()) == path.instructions

    def test_a_kernel_without_loops(self) -> None:
        plain = count_kernels(SASS, RESOURCES)["_Z5plain"]
        assert plain.loop == "no loop in which global memory is read or written"
        conversion = kernels_of(SASS)["_Z5plain"][0].instructions[0]
        assert class_of(conversion) == "conversion"

    def test_an_operation_has_one_class(self) -> None:
        operations = " ".join(CLASSES.values()).split()
        assert len(operations) == len({*operations})


class TestNames:
    @pytest.fixture
    def names(self, tmp_path: Path) -> Names:
        source = tmp_path / "engine.cuh"
        source.write_text(
            "enum class Schedule : int { kLinear = 0, kLog = 1 };\n"
            "template <bool kWide, int kClassTile, class Loss,\n          class Real>\n"
            "__global__ void __launch_bounds__(kThreads)\n    map_kernel(const Loss loss) {}\n"
            "static __global__ void __launch_bounds__(kThreads) thin_kernel(Images images);\n"
        )
        return Names([source])

    def test_kernels(self, names: Names) -> None:
        assert names.parameters == {"map_kernel": ["kWide", "kClassTile", "Loss", "Real"], "thin_kernel": []}
        demangled = "void rarepixel::cuda::map_kernel<false, 8, rarepixel::Drop<(rarepixel::Schedule)1>, float>(int)"
        assert names.of_kernel(demangled) == "map_kernel(not wide, class tile 8, Drop<kLog>, float)"
        assert names.of_kernel("void a::other_kernel<true, f<b, c> >(g<h>)") == "a::other_kernel(true, f<b, c>)"
        assert names.of_kernel("rarepixel::cuda::(anonymous namespace)::thin_kernel(int*)") == "thin_kernel"
        assert names.of_kernel("_INTERNAL_ab_1_c_cu_2_3::rarepixel::cuda::thin_kernel(int*)") == "thin_kernel"

    def test_functions(self, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(disassembly, "_demangle", lambda labels: [f"a::{label}(int)" for label in labels])
        found = names.of_functions(["$_Z1k$_Z8distance", "$__internal_0_$__cuda_sm20_div_s64"])
        assert list(found.values()) == ["a::_Z8distance", "a::div_s64"]

    def test_the_kernels_of_the_sources(self) -> None:
        names = Names((ROOT / "csrc/cuda").glob("*.cu*"))
        texts = [path.read_text() for path in (ROOT / "csrc/cuda").glob("*.cu*")]
        assert sum(len(re.findall(r"__global__ void", text)) for text in texts) == len(names.parameters)
        assert {*PIXELS} <= {*names.parameters}
        octets = (ROOT / "csrc/cuda/octets.cuh").read_text()
        assert f"inline constexpr int kOctet = {max(PIXELS.values())};" in octets

    def test_a_missing_tool_is_named(self) -> None:
        with pytest.raises(FileNotFoundError, match="no oracle: pip install nvidia-cuda-oracle"):
            disassembly.find_tool("oracle")


class TestReport:
    NAMES = ("map_kernel(wide, Loss, float, float)", "settle_kernel(Loss, double)")

    @pytest.fixture
    def report(self, kernel: KernelCode) -> SassReport:
        return SassReport("sm_90", "nvcc 13.0", "-O3", {"loss": dict.fromkeys(self.NAMES, kernel)})

    def test_what_is_listed(self) -> None:
        assert [is_listed(name) for name in self.NAMES] == [True, False]
        assert not is_listed("map_kernel(not wide, Loss, float, float)")
        assert not is_listed("map_kernel(wide, Loss, BFloat16, float)")
        assert [pixels_of(name) for name in self.NAMES] == [8, None]

    def test_tables(self, report: SassReport) -> None:
        lines = sass_markdown(report).splitlines()
        assert lines[0] == "# Machine instructions of the CUDA kernels: sm_90"
        assert "1 of 2 kernels." in lines
        assert f"| {self.NAMES[0]} | 40 | 8 | 1 | 1024 | 31 | 4 | 22 | 2 |" in lines
        of_paths = [line for line in lines if "| pixel |" in line]
        assert [line.split(" | ")[1] for line in of_paths] == ["shortest", "computing", "longest"]
        assert of_paths[-1] == (
            f"| {self.NAMES[0]} | longest | pixel | 2.5 | 0.2 | 0.1 | 0.0 | 0.4 | 0.1 | 0.1 | 0.2 | 0.1 | 1.0 | 0.1 | "
            "1 $_Z1k$_Z8distance |"
        )

    def test_what_is_written_is_read(self, report: SassReport, tmp_path: Path) -> None:
        path = tmp_path / "sass.json"
        path.write_text(to_json(report))
        assert read(SassReport, path) == report
        assert len(path.read_text().splitlines()) == 11  # a kernel a line

    def test_changes(self, report: SassReport) -> None:
        assert list(changes(report, report)) == ["2 kernels are the same."]
        shorter = SASS.replace("        /*00d0*/                   FADD R4, R4, R5 ;\n", "")
        new = SassReport("sm_90", "", "", {"loss": {self.NAMES[0]: count_kernels(shorter, RESOURCES)["_Z1k"]}})
        assert list(changes(report, new)) == [
            f"loss: {self.NAMES[0]}: instructions 31 -> 30, loop 22 -> 21, computing 2 -> 1.875, "
            "computing fp32 0.25 -> 0.125, longest 2.5 -> 2.375, longest fp32 0.25 -> 0.125",
            f"loss: {self.NAMES[1]}: gone",
            "0 kernels are the same.",
        ]
        assert list(changes(new, report))[1].startswith(f"loss: {self.NAMES[1]}: new, registers 40, stack 8, ")

    def test_compare(
        self, report: SassReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("old.json", "sass-sm_90.json"):
            (tmp_path / name).write_text(to_json(report))
        old = str(tmp_path / "old.json")
        monkeypatch.setattr("sys.argv", ["sass", "--out", str(tmp_path), "--compare", old])
        __main__.main()
        assert capsys.readouterr().out == "2 kernels are the same.\n"
        monkeypatch.setattr("sys.argv", ["sass", "--cubins", str(tmp_path)])
        with pytest.raises(SystemExit):
            __main__.main()
        assert "`make sass` compiles them" in capsys.readouterr().err

    @pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
    def test_committed_results_are_written_so(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        found = read(SassReport, path)
        assert to_json(found) == text
        assert path.with_suffix(".md").read_text(encoding="utf-8") == sass_markdown(found)
        assert json.loads(text)["kernels"]

    def test_flags_are_those_of_the_build(self) -> None:
        assert "-fmad=false" in compiler_flags("NVCC_FLAGS").split()
