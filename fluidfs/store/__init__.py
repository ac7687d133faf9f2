"""What an object store is: names, versions and credentials, behind one Protocol; no cache, no trio."""
