"""The human monitor's commands about the machine: devices, memory, ports, `info`."""
