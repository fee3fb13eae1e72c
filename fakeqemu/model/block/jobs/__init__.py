"""Jobs of the block layer: the state table, their common life, and the kinds."""
