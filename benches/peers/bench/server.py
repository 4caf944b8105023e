"""The servers that are compared: servers/NAME/server.ini tells how to start one and which work it can do.

The other files of that folder are its configuration, and go into a folder of its own with @RUN@ (that folder), @WORLD@, @MMDB@,
@BIN@, @MERIDIAN@, @PORT@ and @WORKERS@ replaced.
"""

import configparser
import shutil
import subprocess

from .machine import package_version
from .paths import BIN, HERE, MMDB, RUN, WORLD, Trouble
from .process import Process

FIRST_PORT = 5401
NAMES = sorted(path.parent.name for path in (HERE / "servers").glob("*/server.ini"))


class Server(Process):
    def __init__(self, name, meridian, workers=1):
        if name not in NAMES:
            raise Trouble(f"there is no server {name}; there are {', '.join(NAMES)}")
        self.templates, self.meridian, self.workers = HERE / "servers" / name, meridian, workers
        ini = configparser.ConfigParser(interpolation=None)
        ini.read(self.templates / "server.ini")
        entry = ini["server"]
        self.about, self.packages, self.work = entry["about"], entry.get("packages", "").split(), entry["work"].split()
        super().__init__(name, RUN / name, FIRST_PORT + NAMES.index(name))
        self.command = self.filled(entry["start"])

    @property
    def version(self):
        if self.name == "meridian":
            return subprocess.run([self.meridian, "--version"], capture_output=True, text=True).stdout.split()[-1]
        return package_version(self.packages[0]) if self.packages else "of this bench"

    def filled(self, text):
        values = {"RUN": self.folder, "WORLD": WORLD, "MMDB": MMDB, "BIN": BIN, "MERIDIAN": self.meridian,
                  "PORT": self.port, "WORKERS": self.workers}
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        return text

    def prepare(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        for template in self.templates.rglob("*"):
            if template.is_file() and template.name != "server.ini":
                path = self.folder / template.relative_to(self.templates)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self.filled(template.read_text()))
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self, **how):
        self.prepare()
        self.spawn(**how)
        return self.wait_until_it_answers()
