"""Rows to join: read from files or made, with their exact neighbours.

Start at `dataset`: a `Data` is what the scripts hand to the systems they measure.
"""
