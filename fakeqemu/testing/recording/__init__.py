"""Recording, replaying and comparing QMP conversations."""
