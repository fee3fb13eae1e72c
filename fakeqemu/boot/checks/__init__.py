"""What the boot steps check of the configuration, each at its own step."""
