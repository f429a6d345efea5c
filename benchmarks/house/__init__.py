"""The house in figures and as a picture: both are made from the code and its import contracts.

`python -m benchmarks.house.figures` prints the table, `python -m benchmarks.house.picture` draws the rooms.
"""
