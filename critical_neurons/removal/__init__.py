"""Units that go for a goal: what it may cost, which units are chosen, and networks tried without them.

Every choice is judged by accuracy, after a refit, on images that neither scored the units nor fitted the survivors.
"""
