"""What changes the graph as one step: blockdev.c's commands, snapshots, transactions."""
