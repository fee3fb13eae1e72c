"""QMP commands about the machine: CPUs, memory, devices, the object tree, run state."""
