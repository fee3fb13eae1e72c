"""The block layer: graph, drivers, BlockBackends, jobs, operations. See block.c and blockdev.c."""
