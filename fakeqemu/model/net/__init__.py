"""Network backends and the NICs on them, after QEMU's net/: clients, hubs, queues, filters."""
