"""Data frames of pandas, polars and pyarrow: joins, and the estimators and models of Spark ML.

Start with ``join.py`` and ``dedup.py``, or with ``families.py``, which has the classes that users
of Spark see; what these share is in ``estimator.py`` and ``model.py``. ``adapters.py`` is all that
knows of data frame libraries, ``params.py`` is Spark's way with parameters, ``storage.py`` its
layout of saved models. Uses ``arrays``, ``base`` and the engine; ``lshjoin.spark`` takes parameters
and storage from here.
"""
