"""Parts of the ranking benchmark: cells and their networks, counts, masks, what is measured of them, and tables.

`benchmarks.ranking` is the command.
"""
