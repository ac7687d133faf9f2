"""Native code: bytes move here, without the interpreter's lock. Imports nothing of fluidfs; headers say the contracts.

One extension a concern: `sink` (where bytes go), `usage`, `objects`, `slabs` (the cache's files), `engine` (fetching),
`names`, `contents` (what the data plane knows), `relay` (the data plane), `protocol` (its pure parts, for oracles).
"""
