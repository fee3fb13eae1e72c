"""QMP commands of QAPI's block-core, block-export, block and job modules.

See blockdev.c and block/qapi.c.
"""
