"""A systemd of its own, and what it thinks of its services."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from clients import CLIENTS
from expectations import expect, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[3]
# What the units stand on; all else of the machine's stays away.
TARGETS = """basic.target sysinit.target sockets.target multi-user.target network-online.target network.target shutdown.target umount.target
final.target slices.target paths.target timers.target local-fs.target systemd-journald.service systemd-journald.socket""".split()

BOOT = """
mount -t tmpfs -o mode=755 root "$1" && cd "$1"
mkdir -p over/upper over/work usr etc/systemd/system run proc sys dev tmp var/lib var/log var/tmp root source old
ln -s /run var/run
chmod 1777 tmp var/tmp
for link in bin sbin lib lib64; do ln -s usr/$link $link; done
mount -t overlay -o lowerdir=/usr,upperdir="$1/over/upper",workdir="$1/over/work" usr usr
mkdir usr/lib/systemd/kept
for unit in %(targets)s; do cp -P usr/lib/systemd/system/$unit usr/lib/systemd/kept/; done
rm -rf usr/lib/systemd/system usr/lib/systemd/*-generators usr/lib/tmpfiles.d/* usr/lib/sysusers.d/*
mv usr/lib/systemd/kept usr/lib/systemd/system
mkdir usr/lib/systemd/system/sysinit.target.wants
ln -s ../systemd-journald.service usr/lib/systemd/system/sysinit.target.wants/
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
ln -s /proc/self/fd dev/fd
mkdir dev/shm dev/pts && mount -t tmpfs -o mode=1777 shm dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts && ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 run run
mount --bind -o ro "$2" source
printf 'root:x:0:0::/root:/bin/sh\\nnobody:x:65534:65534::/:/bin/false\\n' >etc/passwd
printf 'root:x:0:\\nnogroup:x:65534:\\n' >etc/group
printf '[Journal]\\nStorage=volatile\\nAudit=no\\nRateLimitBurst=0\\n' >etc/systemd/journald.conf
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
ip link set lo up
pivot_root . old && umount -l old
exec env -i container=meridian-test PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --system --unit=multi-user.target --show-status=false
""" % {"targets": " ".join(TARGETS)}


class Machine:
    """systemd as the first process of namespaces of its own."""

    def __init__(self):
        self.process, self.pid, self.cgroup = None, None, None
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="meridian-systemd-"))

    def boot(self):
        """Why that cannot be, or nothing."""
        if os.geteuid() != 0:
            return "this is not root"
        for program in ("unshare", "nsenter", "ip", "/lib/systemd/systemd", "systemctl", "journalctl"):
            if shutil.which(program) is None:
                return f"there is no {program}"
        # A group of its own: there systemd may do as it likes, and nowhere else.
        unified = next((path for path in map(pathlib.Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) if (path / "cgroup.procs").exists() and (path / "cgroup.controllers").exists()), None)
        if unified is None:
            return "there is no cgroup2"
        self.cgroup = unified / f"meridian-systemd-{os.getpid()}"
        try:
            self.cgroup.mkdir()
        except OSError as error:
            return str(error)
        spaces = ["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "--cgroup", "--propagation", "private"]
        join = 'echo $$ >"$0/cgroup.procs" && exec unshare "$@"'
        self.log = open(self.root.with_suffix(".log"), "w+")
        self.process = subprocess.Popen(["sh", "-c", join, self.cgroup, *spaces, "sh", "-euc", BOOT, "boot", self.root, ROOT],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            self.pid = int(children[0]) if children else None
            if self.pid and pathlib.Path(f"/proc/{self.pid}/comm").read_text() == "systemd\n" and self.try_to("systemctl", "is-system-running").stdout == "running\n":
                return None
            time.sleep(0.05)
        self.log.seek(0)
        return self.log.read().strip() or "it does not start"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and self.pid:
            print(self.try_to("journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic").stdout)
        if self.process:
            # With the first process all of the others end.
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
            self.process.wait()
            self.log.close()
            self.root.with_suffix(".log").unlink()
        if self.cgroup:
            for folder in sorted(self.cgroup.glob("**/"), reverse=True):
                wait_for("its control groups are empty", lambda: remove(folder))
        shutil.rmtree(self.root, ignore_errors=True)

    def inside(self, *words):
        return ["nsenter", "-t", str(self.pid), "-a", "env", "-i", "PATH=/usr/sbin:/usr/bin", "NO_COLOR=1", *map(str, words)]

    def try_to(self, *words):
        return subprocess.run(self.inside(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def run(self, *words, optional=None):
        """What it says; only lines with a text in it, if there is one."""
        ran = self.try_to(*words)
        expect(ran.returncode == 0, f"{' '.join(words)}: exit {ran.returncode}: {ran.stdout}{ran.stderr}")
        return ran.stdout if optional is None else "\n".join(line for line in ran.stdout.splitlines() if optional in line)

    def fails(self, *words):
        return self.try_to(*words).returncode != 0

    def spawn(self, *words):
        return subprocess.Popen(self.inside(*words), stdin=subprocess.DEVNULL)

    def path(self, path):
        return pathlib.Path(f"/proc/{self.pid}/root{path}")

    def write(self, path, content, mode=0o644):
        """Beside it and renamed over, as packages do."""
        path = self.path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name("." + path.name)
        beside.write_bytes(content if isinstance(content, bytes) else content.encode())
        beside.chmod(mode)
        beside.rename(path)


class Unit:
    """A service, as systemd sees it."""

    def __init__(self, machine, name):
        self.machine, self.name = machine, name

    def show(self, *properties):
        """Values in the order of their names as they were asked for."""
        told = self.machine.run("systemctl", "show", self.name, "--property", ",".join(properties))
        values = dict(line.split("=", 1) for line in told.splitlines())
        return [values[name] for name in properties]

    def process(self):
        """Its main process, by the number that it has out here; 0 where there is none."""
        within = self.show("MainPID")[0]
        spaces = lambda pid: pathlib.Path(f"/proc/{pid}/status").read_text()
        for path in self.cgroup_processes():
            with contextlib.suppress(OSError):
                if re.search(r"NSpid:.*\t(\d+)\n", spaces(path))[1] == within:
                    return int(path)
        return 0

    def cgroup_processes(self):
        with contextlib.suppress(OSError):
            return (self.machine.cgroup / "system.slice" / self.name / "cgroup.procs").read_text().split()
        return []

    def of_process(self, name):
        text = pathlib.Path(f"/proc/{self.process()}/{name}").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def log(self, text):
        return self.machine.run("journalctl", "-o", "cat", "-u", self.name, optional=text)

    def expect_status(self, text):
        expect(text in self.show("StatusText")[0], f"its status is {self.show('StatusText')[0]}")

    def wait_for_status(self, text):
        wait_for(f"its status tells that it {text}", lambda: text in self.show("StatusText")[0], 5)

    def ask(self, name, within=5):
        """The RDATA of its TXT."""
        ran = subprocess.run(["nsenter", "-t", str(self.machine.pid), "-n", sys.executable, CLIENTS, "--ask", name, str(within)], stdout=subprocess.PIPE)
        return bytes.fromhex(ran.stdout.decode()) or None


def remove(folder):
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
