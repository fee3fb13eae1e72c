"""The QMP commands, one module per QAPI module; importing this registers them all."""
