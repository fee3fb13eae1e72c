"""Displays, VNC and input (ui/*.c)."""
