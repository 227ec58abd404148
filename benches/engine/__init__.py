"""One part of lshjoin a script: joins, indexes, the planner, Spark, kernels.

Each writes its own bench-results/*.json and *.md, and says in its docstring what it measures.
"""
