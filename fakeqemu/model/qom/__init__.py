"""The object tree and user-creatable objects (qom/*.c)."""
