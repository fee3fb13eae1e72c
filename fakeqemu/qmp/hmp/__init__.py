"""The human monitor at a terminal: line editing, prompt, echo."""
