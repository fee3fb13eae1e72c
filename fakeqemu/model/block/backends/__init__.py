"""BlockBackends, the users of nodes: devices, drives, exports. See block/block-backend.c."""
