"""TPM backends: what `-tpmdev` makes, and who uses it."""
