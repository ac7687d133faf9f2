"""One module per client: how it is mounted at its best documented settings, and how its cache is emptied."""
