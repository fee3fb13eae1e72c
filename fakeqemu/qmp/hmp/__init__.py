"""The human monitor at a terminal: line editing, prompt, echo. See util/readline.c."""
