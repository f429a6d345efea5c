"""Linear maps of layers as matrices, and the windows of pools and convolutions.

Each takes a value in the lowering and says which matrix, or which windows, make the next one of it.
"""
