"""bench-results/kernels.svg: kernels under the roofs of memory and of each probed instruction."""

import matplotlib.pyplot as plt

from benches import record
from benches.engine.rates import ISAS, Rates


def draw(rates: Rates) -> None:
    reading = rates["memory", "read", "any"]
    # Multiply-adds a byte that is read from memory; a block of the tile is read once for all rows.
    tables, functions, panel = 16, 12, 1024
    intensity = {
        "keys": tables * functions / 4,
        "gemm": tables * functions / 4,
        "tile": panel / 2,
        "quantise": 1 / 4,
        "dot f32": 1 / 4,
        "dot f64": 1 / 8,
        "squared Euclidean f32": 1 / 4,
        "Manhattan f32": 1 / 4,
    }
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    span = [1 / 16, 4096]
    probes = [name for name in rates if name[0] == "peak"]
    for place, name in enumerate(sorted(probes, key=rates.__getitem__)):
        roof = rates[name]
        ridge = roof / reading
        axes.plot([ridge, span[1]], [roof / 1e9] * 2, color="grey", linewidth=0.8)
        axes.annotate(
            f"{name[1]} {name[2]}",
            (span[1] / 2.5 ** (place % 3), roof / 1e9),
            ha="right",
            va="bottom",
            fontsize=7,
        )
    top = max(rates[name] for name in probes) if probes else reading * span[1]
    axes.plot(
        [span[0], top / reading],
        [span[0] * reading / 1e9, top / 1e9],
        color="black",
        linewidth=1,
        label=f"reading memory, {reading / 1e9:.1f} GB/s",
    )
    markers = dict(zip((*ISAS, "any"), "osD^vPXph*", strict=True))
    colours = dict(zip(intensity, plt.colormaps["tab10"].colors, strict=False))
    for (kernel, isa, case), rate in rates.items():
        if kernel not in intensity or case == "cache":
            continue
        x = intensity[kernel] / (3 if case == "128" else 1)
        per_byte = 1 if kernel in ("keys", "gemm", "tile") else intensity[kernel]
        axes.plot(
            x, rate * per_byte / 1e9, markers[isa], color=colours[kernel], markersize=5, alpha=0.8
        )
    for kernel, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=kernel)
    for isa, marker in markers.items():
        if any(name[1] == isa for name in rates):
            axes.plot([], [], marker, color="grey", label=isa)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=span,
        xlabel="multiply-adds (or values) a byte read from memory",
        ylabel="10⁹ a second, one thread",
        title="Kernels against measured peaks",
    )
    axes.legend(fontsize=7, ncols=2, loc="upper left")
    figure.savefig(record.RESULTS / "kernels.svg", metadata={"Date": None})
