"""The machine as plain synchronous objects; QEMU's directories system/, hw/ and block/."""
