"""What a mount can be told. Values only: nothing here reads a file, the environment or the process; all of it is
passed in.
"""

from fluidfs.config.values import Addressing, LevelSpec, Medium, MountOptions, Verify

__all__ = ["Addressing", "LevelSpec", "Medium", "MountOptions", "Verify"]
