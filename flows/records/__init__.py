"""What tasks did, kept on disk by what it depends on: whatever happens to a process or a server, it is done once."""

from flows.records.cache import Cache, without_cache
from flows.records.entries import Data, Entry, File, Metrics, Tags
from flows.records.record import DamagedRecord, Draft, Record, open_draft, read_record

__all__ = [
    "Cache",
    "DamagedRecord",
    "Data",
    "Draft",
    "Entry",
    "File",
    "Metrics",
    "Record",
    "Tags",
    "open_draft",
    "read_record",
    "without_cache",
]
