"""The file system: lookup, read, list as async functions over the layers below. It knows nothing of FUSE, and so is
tested without a mount.
"""
