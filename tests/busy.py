"""The time that a busy machine may add to what a test waits for.

The tests that use it guard against waits without an end, or of minutes; they run beside others that keep every core
busy.
"""

BUSY = 45.0  # seconds
