"""An object store in a box, for the demonstration, the tests and the benchmarks.

It starts a real S3 server (SeaweedFS) on loopback, fills it with real data, and measures how a mount of it is read.
No other room of the package may import this one, except the command line.
"""
