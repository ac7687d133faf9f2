"""From extents to bytes in the cache: which source has them, how many at once, what to do when it fails.

Bytes themselves move in native code; this room decides. What fetches a block is decided in `source.py` alone, so that
another link (a cluster cache) can be put before the store.
"""
