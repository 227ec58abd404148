"""Measurements: what `make bench` and its siblings run, and the demo.

Scripts run as modules from the repository's root, `python -m benches.engine.knn_join --help`; the
Makefile has a target for each. Where to start: `comparison` measures lshjoin beside similar
systems, `engine` one part of lshjoin a script.

Layers, each of which uses only those below it; `make lint` checks that, and that no imports go in a
circle:

    reliability | comparison | engine | demo    scripts
    report      tables, plots and pages from what was recorded
    systems     lshjoin and its peers, each measured in a process of its own
    data        rows to join, and their exact neighbours
    record      where results are kept, and what machine they are from

No part of this package: `kernels/`, a Rust package whose measurements `engine.kernels` reads;
`ann-benchmarks/`, whose files are copied into ann-benchmarks; and `sisap/`, an entry for the SISAP
challenges, which `engine.sisap` runs.
"""
