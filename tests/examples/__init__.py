"""A small manager of machines, and its tests as somebody would write them who has only the docs."""
