"""Devices and buses. See hw/core/qdev.c and system/qdev-monitor.c."""
