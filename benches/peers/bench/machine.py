"""What has to be there before anything runs: Debian packages, the two C programs, meridian itself."""

import os
import pathlib
import platform
import shutil
import subprocess

from .paths import BIN, HERE, ROOT, Trouble

TOOLS = ["gcc", "libc6-dev", "python3", "python3-numpy", "ca-certificates", "util-linux"]
POLICY = pathlib.Path("/usr/sbin/policy-rc.d")


def package_version(name):
    """None: not installed."""
    found = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name], capture_output=True, text=True)
    status, _, version = found.stdout.partition(" ")
    return version if status == "installed" else None


def install(packages):
    if not shutil.which("dpkg-query"):
        raise Trouble("the servers are taken from Debian's packages, and this machine has no dpkg")
    missing = [name for name in dict.fromkeys(packages) if package_version(name) is None]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise Trouble(f"packages are missing, and only root can install them:\n    {' '.join(command)}\n"
                      "Debian starts what it installs; a /usr/sbin/policy-rc.d that exits 101 keeps it from that.")
    print("installing", " ".join(missing), flush=True)
    ours = not POLICY.exists()
    if ours:  # the packages' own services would take port 53 and CPU
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for step in (["apt-get", "update"], command):
            if subprocess.run(step, env=environment, stdout=subprocess.DEVNULL).returncode:
                raise Trouble(f"`{' '.join(step)}` failed, see above")
    finally:
        if ours:
            POLICY.unlink()


def build_clients():
    BIN.mkdir(parents=True, exist_ok=True)
    for name, flags in (("blast", []), ("echo", ["-pthread"])):
        source, binary = HERE / f"{name}.c", BIN / name
        if binary.exists() and binary.stat().st_mtime > source.stat().st_mtime:
            continue
        if subprocess.run(["cc", "-O2", "-Wall", *flags, "-o", binary, source]).returncode:
            raise Trouble(f"{source.name} does not compile, see above")


def build_meridian():
    """The binary that is measured: the one in MERIDIAN, or this tree's."""
    given = os.environ.get("MERIDIAN")
    if given:
        binary = pathlib.Path(given).resolve()
        if not os.access(binary, os.X_OK):
            raise Trouble(f"MERIDIAN={given} is no program")
        return binary
    if not shutil.which("cargo"):
        raise Trouble("cargo is needed to build meridian (https://rustup.rs), or MERIDIAN=path of a binary")
    if subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT).returncode:
        raise Trouble("meridian does not build, see above")
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve() / "release" / "meridian"


def description():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{os.cpu_count()} CPUs ({model}), {memory / 2**20:.0f} GiB, Linux {platform.release()}, {release}"
