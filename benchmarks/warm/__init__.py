"""The suite of warm caches: all of them in memory, the kernel's page cache emptied in between, all clients mounted at
once and measured in turn, each ratio taken within a round.
"""
