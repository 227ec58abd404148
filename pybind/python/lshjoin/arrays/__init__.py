"""Joins of NumPy arrays, and of columns of vectors: what all other joins end in.

Start with ``knn.py`` and ``radius.py``, which hand the two sides over to the engine; what comes
back is in ``neighbors.py``, and the groups of near rows are in ``groups.py``. Uses ``base`` and the
engine; knows no data frames, files or indexes.
"""
