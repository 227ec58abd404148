"""What criterion measured of the kernels: so many a second of each."""

import json
from pathlib import Path

# From the least to the best of each architecture.
ISAS = ("scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon", "neondot", "neoni8mm")

# Rates by (kernel, instruction set, case), a second.
Rates = dict[tuple[str, str, str], float]


def read(directory: Path) -> Rates:
    """Criterion's medians, of the fastest round."""
    rates: Rates = {}
    for path in sorted(directory.rglob("new/benchmark.json")):
        named = json.loads(path.read_text())
        estimates = json.loads((path.parent / "estimates.json").read_text())
        (amount,) = named["throughput"].values()
        name = (named["group_id"], named["function_id"], named["value_str"])
        rate = amount / estimates["median"]["point_estimate"] * 1e9
        rates[name] = max(rate, rates.get(name, 0.0))
    if not rates:
        raise SystemExit(f"no measurements in {directory}: run `make bench-kernels`")
    return rates
