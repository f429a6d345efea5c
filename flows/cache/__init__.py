"""The cache: results of tasks on disk under a key of all that they depend on.

A record is there whole, with a digest of every file, or not at all.
"""

from flows.cache.earlier import EarlierResult, StoredResult
from flows.cache.entries import Data, Entry, File, Metrics, Tags
from flows.cache.folder import Cache, without_cache
from flows.cache.location import NOTHING, ROOMS, ROOT, VARIABLE, cache_of, code_digest, key_of, structure_of
from flows.cache.marker import key_digest
from flows.cache.names import file_name, is_path
from flows.cache.record import FILES, DamagedRecord, Draft, Record, content_of, open_draft, read_record
from flows.cache.stage_result import (
    Artifact,
    KeyedPicture,
    OnPart,
    Part,
    ReadImages,
    Returned,
    StageResult,
    table_of,
    unheard,
)

__all__ = [
    "FILES",
    "NOTHING",
    "ROOMS",
    "ROOT",
    "VARIABLE",
    "Artifact",
    "Cache",
    "DamagedRecord",
    "Data",
    "Draft",
    "EarlierResult",
    "Entry",
    "File",
    "KeyedPicture",
    "Metrics",
    "OnPart",
    "Part",
    "ReadImages",
    "Record",
    "Returned",
    "StageResult",
    "StoredResult",
    "Tags",
    "cache_of",
    "code_digest",
    "content_of",
    "file_name",
    "is_path",
    "key_digest",
    "key_of",
    "open_draft",
    "read_record",
    "structure_of",
    "table_of",
    "unheard",
    "without_cache",
]
