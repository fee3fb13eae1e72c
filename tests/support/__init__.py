"""What tests of several folders share: machines, hosts, streams, clients, a real QEMU."""
