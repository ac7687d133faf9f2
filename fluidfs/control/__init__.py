"""How other processes find a running mount and talk to its daemon: records and a Unix socket that only its user and
root may use.

Nothing here knows what a mount does: the daemon brings a MountService. What comes over the socket is never trusted.
"""
