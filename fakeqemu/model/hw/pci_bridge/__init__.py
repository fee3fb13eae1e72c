"""PCI expanders: host bridges of their own."""
