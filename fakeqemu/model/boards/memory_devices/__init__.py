"""Devices that bring the guest memory of their own: modules, and virtio devices with memory."""
