"""The cache: levels of directories that hold object versions, shared by all processes of a user. No network here.

A fault in this room never reaches a reader: it is a CacheError, and whoever asked treats it as a miss. The format on
disk is settled in `_native/{usage,object_file,slab}.h` and described in `docs/reference/cache-format.md`.
"""
