"""The guest: its reactions, the memory that it dirties, its agent (QEMU's directory qga/)."""
