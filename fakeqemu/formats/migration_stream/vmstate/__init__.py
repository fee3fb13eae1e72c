"""Device sections: configuration, VMState fields, description. See migration/vmstate.c."""
