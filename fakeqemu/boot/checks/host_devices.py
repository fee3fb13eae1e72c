"""Backends that need a device or a server of the host: displays, sound, TPMs.

See system/tpm.c: tpm_config_parse(); audio/audio.c: audio_init_audiodevs(); system/vl.c:
qemu_init_displays().
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fakeqemu.qapi.errors import NotModelledError, StartupError

if TYPE_CHECKING:
    from fakeqemu.configuration import OptionString
    from fakeqemu.model.host import Host
    from fakeqemu.model.machine import Machine
    from fakeqemu.profile import Profile

#: -audiodev driver -> such a package, where it is not that of graphical displays
_AUDIO_PACKAGES = {
    "spice": "qemu-system-modules-spice", "dbus": "qemu-system-modules-opengl",
}  # fmt: skip

_DRM = "/dev/dri"

#: -tpmdev type -> what `help` says of it
_TPM_TYPES = {"passthrough": "Passthrough TPM backend driver",
              "emulator": "TPM emulator backend driver"}
_TPM_KEYS = {"passthrough": ("type", "cancel-path", "path"), "emulator": ("type", "chardev")}
TPM_HELP = "\n".join(["Supported TPM types (choose only one):",
                      *(f"{name:>12}   {text}" for name, text in _TPM_TYPES.items())])


def _blame(entry: OptionString, text: str, hint: str = "") -> StartupError:
    return StartupError(text, location=entry.location, hint=hint)


# -- display -------------------------------------------------------------------------------------


def open_display(display: Mapping[str, Any], profile: Profile, host: Host) -> None:
    """What a display needs of the host, once the machine is there. Raises StartupError.

    See ui/curses.c: curses_display_init(); ui/egl-headless.c: egl_headless_init() (7.2).
    """
    if display["type"] == "egl-headless":
        open_render_node(display, profile, host)
    if not host.is_terminal(1):
        raise StartupError("We need a terminal output", own_line=True)
    raise NotModelledError("-display curses")


def open_render_node(display: Mapping[str, Any], profile: Profile, host: Host) -> None:
    """What -display egl-headless needs of the host. Raises StartupError.

    See ui/egl-helpers.c: egl_init() and egl_rendernode_init(); util/drm.c:
    qemu_drm_rendernode_open().
    """
    if display.get("gl") == "off" and profile.traits.egl_before_devices:
        raise StartupError("egl: turning off GL doesn't make sense")
    nodes = [display["rendernode"]] if "rendernode" in display else _render_nodes(host)
    if all(host.file_error(node) is not None for node in nodes):
        failure = StartupError("egl: render node init failed")
        failure.earlier = ("egl: no drm render node available",)
        raise failure
    raise NotModelledError("-display egl-headless")


def _render_nodes(host: Host) -> list[str]:
    try:
        names = host.list_folder(_DRM)
    except OSError:
        return []
    return [f"{_DRM}/{name}" for name in names if name.startswith("renderD")]


# -- audio ---------------------------------------------------------------------------------------


def check_audiodev(values: Mapping[str, Any], profile: Profile, host: Host) -> None:
    """Whether an -audiodev's driver is there and starts. Raises StartupError.

    See audio/audio.c: audio_init(); audio/ossaudio.c: oss_audio_init(); audio/spiceaudio.c (7.2).
    """
    driver = values["driver"]
    advises = profile.traits.missing_module_advice
    if driver not in profile.help("-audio help").split():
        package = _AUDIO_PACKAGES.get(driver, "qemu-system-gui")
        advice = f"do you want to install {package} package?"
        if advises:
            advice = advice.replace("do you", "Perhaps you")[:-1]
            raise StartupError(f"Unknown audio driver `{driver}'. {advice}?")
        raise StartupError(
            f"qemu: module audio-audio-{driver} not found, {advice}\n"
            f"audio: Unknown audio driver `{driver}'", own_line=True,
        )
    failure = _audio_failure(driver, values, host)
    if failure is not None and advises:
        raise StartupError(failure)
    if failure is not None:
        raise StartupError(f"audio: Could not init `{driver}' audio driver", own_line=True)


def _audio_failure(driver: str, values: Mapping[str, Any], host: Host) -> str | None:
    if driver == "spice":
        # 7.2 has its driver without the server
        return "spice is not in use"
    if driver != "oss":
        return None
    for direction in ("in", "out"):
        path = values.get(direction, {}).get("dev", "/dev/dsp")
        why = host.file_error(path)
        if why is not None:
            return f"{path} not accessible: {why}"
    return None


# -- TPM -----------------------------------------------------------------------------------------


def open_tpmdev(entry: OptionString, vm: Machine) -> None:
    """-tpmdev: an emulator is attached, a host's TPM is not modelled. Raises StartupError.

    See system/tpm.c: tpm_init_tpmdev(); backends/tpm/tpm_emulator.c:
    tpm_emulator_handle_device_opts(); backends/tpm/tpm_passthrough.c:
    tpm_passthrough_handle_device_opts().
    """
    if vm.tpm.emulator is not None:
        raise _blame(entry, "Only one TPM is allowed.")
    if entry.id is None:
        raise _blame(entry, "Parameter 'id' is missing")
    kind = entry.values.get("type")
    if kind is None:
        raise _blame(entry, "Parameter 'type' is missing", TPM_HELP)
    if kind not in _TPM_TYPES:
        raise _blame(entry, "Parameter 'type' expects a TPM backend type", TPM_HELP)
    for key, _ in entry.pairs:
        if key not in _TPM_KEYS[kind]:
            raise _blame(entry, f"Invalid parameter '{key}'")
    if kind == "passthrough":
        path = entry.values.get("path", "/dev/tpm0")
        why = vm.host.file_error(path)
        if why is not None:
            raise _blame(entry, f"Cannot access TPM device using '{path}': {why}")
        if not path.startswith("/dev/tpm"):
            raise _blame(entry, f"'{path}' is not a TPM device.")
        raise NotModelledError("-tpmdev passthrough")
    name = entry.values.get("chardev")
    if name is None:
        raise _blame(entry, "tpm-emulator: parameter 'chardev' is missing")
    chardev = vm.chardevs.get(name)
    if chardev is None:
        raise _blame(entry, f"tpm-emulator: tpm chardev '{name}' not found")
    reports = vm.tpm.add_emulator(entry.id, chardev)
    if reports:
        failure = _blame(entry, reports[-1])
        failure.earlier = tuple(f"{entry.location}: {line}" for line in reports[:-1])
        raise failure


def start_tpm(vm: Machine) -> None:
    """What the first reset of the machine has the TPM do. Raises StartupError."""
    reports: list[str] = []
    from fakeqemu.model.tpm.emulator import TpmError

    try:
        vm.tpm.startup(reports.append)
    except TpmError as error:
        failure = StartupError(str(error))
        failure.earlier = tuple(reports)
        raise failure from None
    for line in reports:
        vm.host.warn(line)
