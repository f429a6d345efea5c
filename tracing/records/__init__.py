"""Records of the calls that a forward makes, with the answers to what it asks of shapes.

A record stands for any number of images, or is refused.
"""

from tracing.records.call_records import recorded_calls

__all__ = ["recorded_calls"]
