"""What the kernels reach of what the machine can do, from what `make bench-kernels` has measured.

Reads the estimates that criterion left in the directory that is given, of several rounds. Of each
kernel and each peak the fastest round counts: what else a shared machine does, slows both. Writes
bench-results/kernels.json and .md, and the roofline as kernels.svg.
"""

import argparse
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benches import record
from benches.engine.rates import ISAS, Rates, read
from benches.engine.roofline import draw

DIM = 384
# What a rate is of, and how it is shown.
UNITS = {
    "multiply-adds": (1e9, "GMAC/s"),
    "bytes": (1e9, "GB/s"),
    "bits": (1e9, "Gbit/s"),
    "candidates": (1e6, "million/s"),
}


@dataclass
class Line:
    """One kernel's rate beside what it is measured by."""

    kernel: str
    isa: str
    case: str
    unit: str
    achieved: float
    against: str
    peak: float
    bar: float | None = None
    number: int | None = None

    @property
    def share(self) -> float:
        return self.achieved / self.peak

    @property
    def verdict(self) -> str:
        if self.bar is None:
            return ""
        return "hit" if self.share >= self.bar else "miss"


def lines(rates: Rates) -> list[Line]:
    """The bars, as far as this machine has the instruction sets, then all else."""
    found = []

    def add(
        name: tuple[str, str, str],
        unit: str,
        against: str,
        peak: float | None,
        bar: float | None = None,
        number: int | None = None,
    ) -> None:
        if name in rates and peak:
            found.append(Line(*name, unit, rates[name], against, peak, bar, number))

    isas = [isa for isa in ISAS if any(name[:2] == ("tile", isa) for name in rates)]
    best = isas[-1]
    instructions = {
        "avx2": ("vpmaddubsw + vpmaddwd + vpaddd", ("peak", "maddubs", "avx2"), (0.8, 0.8)),
        "avxvnni": ("vpdpbusd", ("peak", "dpbusd", "avxvnni"), (None, None)),
        "avx512": ("vpmaddwd + vpaddd", ("peak", "maddwd", "avx512"), (None, None)),
        "avx512vnni": ("vpdpbusd", ("peak", "dpbusd", "avx512vnni"), (0.9, 0.85)),
        "amx": ("tdpbssd", ("peak", "tdpbssd", "amx"), (0.45, 0.45)),
    }
    for isa, (against, peak, bars) in instructions.items():
        for dim, bar in zip(("384", "128"), bars, strict=True):
            name = ("tile", isa, dim)
            add(name, "multiply-adds", against, rates.get(peak), bar, bar and 1)
    for dim in ("384", "128"):
        # What its kernel does: of bytes, which the bar is for, sums of two products would saturate.
        words = rates.get(("peak", "maddwd", "avx2"))
        add(("tile", "avx2", dim), "multiply-adds", "vpmaddwd + vpaddd", words)
    counting = {
        "avx2": ("vpxor, by look-ups", ("peak", "xor popcnt", "avx2"), None),
        "avx512": ("vpxord + vpopcntd + vpaddd", ("peak", "xor popcnt", "avx512"), 0.7),
    }
    for isa, (against, peak, bar) in counting.items():
        for case in ("256 fixed", "256 rising", "1024 fixed"):
            add(("bits", isa, case), "bits", against, rates.get(peak), bar, bar and 7)
    popcnt = rates.get(("peak", "popcnt", "avx512"))
    add(("bits", "avx512", "256 fixed"), "bits", "vpopcntd alone", popcnt, 0.7, 7)
    gemm = max(rate for name, rate in rates.items() if name[0] == "gemm")
    for isa in isas:
        name = ("keys", isa, "memory")
        bar = (0.85, 2) if isa == best else (None, None)
        add(name, "multiply-adds", "faer's bare GEMM", gemm, *bar)
    for isa in isas:
        name = ("floor-hash-pack", isa, "cache")
        bar = (10, 3) if isa == best else (None, None)
        add(name, "multiply-adds", "the GEMM that feeds it", gemm, *bar)
    reading = rates["memory", "read", "any"]
    for kernel, bar in (("quantise", 0.7), ("check finite", None)):
        for isa in isas:
            numbered = (bar, 4) if bar and isa == best else (None, None)
            add((kernel, isa, "memory"), "bytes", "reading memory", reading, *numbered)
    measures = [
        f"{of} {t}" for t in ("f32", "f64") for of in ("squared Euclidean", "dot", "Manhattan")
    ]
    for kernel in (*(f"exact {t}" for t in ("f32", "f64", "f16")), *measures):
        copy = rates.get((f"gather {kernel[-3:]}", "any", "memory"))
        bar = 0.9 if kernel.startswith("exact") else 0.6
        add((kernel, best, "memory"), "bytes", "copying the same rows", copy, bar, 5)
    for case in ("k = 10", "k = 100"):
        before = rates.get(("insertion", "any", case))
        for isa in isas:
            numbered = (2, 8) if isa == best else (None, None)
            add(("insertion", isa, case), "candidates", "the same, by branches", before, *numbered)
    simd = next((isa for isa in isas if isa in ("avx2", "neon")), None)
    if simd:
        for kernel, case in [
            ("tile", "384"),
            ("floor-hash-pack", "cache"),
            ("quantise", "cache"),
            *((kernel, "cache") for kernel in measures),
            ("check finite", "cache"),
        ]:
            unit = "multiply-adds" if kernel in ("tile", "floor-hash-pack") else "bytes"
            scalar = rates.get((kernel, "scalar", case))
            add((kernel, simd, case), unit, "the same, scalar", scalar, 4, 6)
    add(("gemm", "any", "192"), "multiply-adds", "fma", rates.get(("peak", "fma", "avx512")))
    for kernel in ("dot products", "within squared Euclidean", "within Manhattan"):
        for isa in ("avx2", "avx512"):
            name = (kernel, isa, "cache")
            add(name, "multiply-adds", "fma", rates.get(("peak", "fma", isa)))
    add(("widen f16", "any", "cache"), "bytes", "reading memory", reading)
    return found


def report(result: dict[str, Any], found: list[Line], rates: Rates) -> str:
    text = [
        "# Kernels",
        "",
        "By `make bench-kernels`: medians of the fastest of three rounds, one thread for kernels "
        "and peaks alike, in one run.",
        "",
        record.circumstances(result),
        "",
        "| bar | kernel | instruction set | case | achieved | against | that reaches | share "
        "| wanted | |",
        "|---|---|---|---|---:|---|---:|---:|---:|---|",
    ]
    for line in found:
        size, unit = UNITS[line.unit]
        ratio = line.against.startswith(("the same", "the GEMM"))
        show = (lambda x: f"{x:.1f} ×") if ratio else (lambda x: f"{x:.0%}")
        text.append(
            f"| {line.number or ''} | {line.kernel} | {line.isa} | {line.case} "
            f"| {line.achieved / size:.1f} {unit} | {line.against} | {line.peak / size:.1f} {unit} "
            f"| {show(line.share)} | {show(line.bar) if line.bar else ''} | {line.verdict} |"
        )
    text += [
        "",
        f"Rows are of {DIM} values, but for the tiles' 128. The tile's panels, and what is called "
        "cache, are in the second-level cache; memory is 1,000,000 rows. Keys are those of 100,000 "
        "rows in 16 tables of 12 functions: the rate is that of the multiply-adds of their "
        "projections, and floor-hash-pack's is how many the GEMM would have to do in its time, so "
        "that 10 × stands for a tenth of the GEMM's time. The bare GEMM is the fastest of several "
        "block sizes. Rates of bytes are of bytes read. Exact distances are those of joins, in "
        "double precision. To each list come 1,000 random candidates, by branches as at commit "
        "26bb197.",
        "",
    ]
    others = [name for name in rates if name[0] == "radix sort"]
    text += [f"- {name[0]}, {name[2]}: {rates[name] / 1e6:.0f} million a second" for name in others]
    text += ["", "![Achieved against measured peak](kernels.svg)", ""]
    return "\n".join(text)


def versions() -> dict[str, str]:
    """Of the compiler, and of what it compiled."""

    def run(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    packages = ("lshjoin-kernels", "faer", "pulp", "criterion")
    found = {name: run("cargo", "pkgid", name).strip().split("@")[-1] for name in packages}
    return {"rustc": run("rustc", "--version").split()[1]} | found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("measurements", type=Path, help="where criterion keeps its estimates")
    rates = read(options.parse_args().measurements)
    found = lines(rates)
    result = {
        "machine": record.machine(),
        "versions": versions(),
        "threads": 1,
        "bars": [asdict(line) | {"share": line.share, "verdict": line.verdict} for line in found],
        "per_second": {" / ".join(name): rate for name, rate in rates.items()},
    }
    text = report(result, found, rates)
    record.write("kernels", result, text)
    draw(rates)
    print(text)


if __name__ == "__main__":
    main()
