"""Tables, plots and pages, from what bench-results/ holds.

`python -m benches.report NAME` writes bench-results/NAME.md and its plots; for `bench`, the run
that is published, also what README.md and docs/ show of it (`blocks`). Start at `results`, the
lines of a run, which all else is made of.
"""
