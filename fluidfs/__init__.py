"""A bucket as a local disk.

The rooms of the house, and the order in which they may import each other (downward only), are in
`docs/explanation/layout.md`; import-linter holds them to it.
"""

from fluidfs.version import VERSION as __version__

__all__ = ["__version__"]
