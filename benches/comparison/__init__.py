"""lshjoin beside similar systems, each with the settings of one who knows it: `make bench`.

`python -m benches.comparison` measures the `workloads`, each by systems and settings of `sweeps`.
`growth` measures the fastest of them on more and more rows.
`spark_join` has Spark's own similarity join and ours in one run, `minhash_join` those of sets;
`binary_join` has joins of packed bits, FAISS's and ours;
`ann_benchmarks` runs our adapter for ann-benchmarks.
"""
