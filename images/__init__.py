"""How the container image is built: from Debian packages and hash-locked wheels, by the standard library alone."""
