"""Joins, near-duplicates and indexes of vectors in files, which may be more than memory holds.

Start with ``joins.py``. A join finds its files (``sources.py``), here or elsewhere, opens them
(``datasets.py``, ``formats.py``), plans what stays in memory (``plan.py``), and joins there or,
chunk by chunk, against an index on disk (``disk_join.py``). What is done so far is in the work
directory of a job (``job.py``), pairs go to Parquet files (``pairs.py``), and these to where they
belong (``upload.py``). Uses ``index``, ``arrays`` and ``base``; of data frames it knows that they
hand over Arrow batches.
"""
