"""The suite that begins with empty caches: what comes from the store, what it costs, and what a cache on disk gives."""
