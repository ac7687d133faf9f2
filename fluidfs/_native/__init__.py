"""Native code: bytes move here, without the interpreter's lock. Imports nothing of fluidfs; headers state the contracts."""
