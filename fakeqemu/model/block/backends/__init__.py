"""BlockBackends: what a device, a job or an export holds of a node."""
