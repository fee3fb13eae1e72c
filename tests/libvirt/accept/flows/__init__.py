"""The steps, one module a flow."""
