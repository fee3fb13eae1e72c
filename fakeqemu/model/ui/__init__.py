"""Displays, VNC and input: consoles, clients, input devices. See ui/console.c."""
