"""The board: CPUs, memory, NUMA, RAM blocks and what is soldered on."""
