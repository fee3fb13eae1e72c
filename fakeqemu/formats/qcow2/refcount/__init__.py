"""Who uses which cluster of a qcow2 image."""
