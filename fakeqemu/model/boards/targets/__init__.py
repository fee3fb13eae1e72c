"""What machines of other targets than PCs do in their own way."""
