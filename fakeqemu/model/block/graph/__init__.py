"""The block graph: nodes, edges, permissions, dirty bitmaps (block.c)."""
