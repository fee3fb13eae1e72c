"""Block drivers: protocols, formats, filters, one class per `BlockDriver`.

See QEMU's directory block/.
"""
