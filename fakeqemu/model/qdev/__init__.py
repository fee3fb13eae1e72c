"""Devices and buses (hw/core/qdev*.c, system/qdev-monitor.c)."""
