"""Joins, near-duplicates and indexes of vectors in files, which may be more than memory holds.

Start with ``joins.py``. A join finds its files (``sources.py``), here or elsewhere, opens them
(``datasets.py``, ``formats.py``), plans what stays in memory (``plan.py``), and joins there or,
chunk by chunk, against an index on disk (``disk_join.py``). What is done so far is in the work
directory of a job (``job.py``); its pairs are tables (``pairs.py``), written in the format that is
asked for (``results.py``), here or, when they are whole, elsewhere (``upload.py``). Uses ``index``,
``arrays`` and ``base``; of data frames it knows that they hand over Arrow batches.
"""
