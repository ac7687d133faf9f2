"""Names: which paths exist, learned from flat listings, kept for a while; no bytes of files, no FUSE."""
