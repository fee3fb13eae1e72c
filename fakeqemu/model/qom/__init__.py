"""The object tree and user-creatable objects of one machine. See qom/object.c."""
