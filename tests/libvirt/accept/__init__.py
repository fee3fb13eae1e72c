"""Does a real libvirt take this binary for an emulator?

The acceptance run starts private libvirtd instances, points them at an emulator and drives
through virsh what a management tool would do. It needs nothing but the standard library and
knows nothing of fakeqemu, so that a real QEMU can be held to the same steps: `scripts/accept`.
"""
