"""The block graph: nodes, edges, permissions, dirty bitmaps. See block.c."""
