"""The convex problem that is left at fixed scores: the network to first order, its loss, the best changes of weights.

Its duals make the cuts that the mask program is solved by.
"""
