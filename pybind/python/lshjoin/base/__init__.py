"""What all layers share: checks of arguments, vectors as matrices, plans and reports, progress.

Start with ``vectors.py``, through which all that is joined comes in, and ``plan.py``, which says
how it is joined. Uses the engine, for plans, and nothing above.
"""
