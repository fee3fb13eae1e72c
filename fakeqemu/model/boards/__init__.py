"""The board: CPUs, memory, NUMA, RAM blocks, built-in ports. See hw/core/machine.c."""
