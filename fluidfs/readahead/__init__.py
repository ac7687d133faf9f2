"""Pure decisions: from the history of reads on a handle to the extents that are worth fetching. No I/O, no clock."""
