"""How each server is started: the same zone, and otherwise as Debian's package comes. None has its limits raised for this, and none is
held to one processor. What is written besides the zone is where to listen, where to write, and to log nothing.

Two things differ from what a package's unit would do: all run as root, and with the descriptors of whoever starts this.
"""

import os
import shutil
import subprocess

from bench.machine import package_version
from bench.process import Process

ADDRESS, PORT = "127.0.0.1", 5300
ALL_CPUS = set(range(os.cpu_count()))
# `www` is what everybody asks for, `big` what is worth asking for in somebody else's name.
ZONE = """$ORIGIN example.com.
$TTL 60
@ IN SOA ns1 hostmaster 1 7200 900 1209600 60
@ IN NS ns1
ns1 IN A 192.0.2.53
www IN A 192.0.2.80
big IN TXT {strings}
""".format(strings=" ".join(f'"{letter * 200}"' for letter in "abcd"))
# The same for all who can: a /24 gets about 1,000 responses a second. BIND allows no more; meridian is told the rate of an
# address, and a /24 has 32 times as much.
LIMIT = 1000

# key: what it is called, its package.
SERVERS = {
    "meridian": ("meridian", None),
    "bind": ("BIND", "bind9"),
    "knot": ("Knot", "knot"),
    "nsd": ("NSD", "nsd"),
    "gdnsd": ("gdnsd", "gdnsd"),
    "powerdns": ("PowerDNS", "pdns-backend-bind"),
}


def version(key, meridian):
    """None: it is not here."""
    package = SERVERS[key][1]
    if package:
        return package_version(package)
    told = subprocess.run([meridian, "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[-1]


def start(key, folder, meridian, limited=False, before=""):
    """The process, once it answers. `before` is a command that starts the server's own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = CONFIGURE[key](folder, meridian, limited)
    process = Process(key, folder, PORT, f"{before} {command}")
    process.spawn(cpus=ALL_CPUS)
    process.wait_until_it_answers("www.example.com", limit=20)
    return process


# --- a configuration for each; gives the command

def configure_meridian(folder, meridian, limited):
    put(folder / "zones/example.com.zone", ZONE)
    limit = f"answers:\n  rate_limit: {{ per_second: {LIMIT // 32}, dry_run: false }}\n" if limited else ""
    put(folder / "meridian.yaml", f'listen: "{ADDRESS}:{PORT}"\n{limit}')
    return f"{meridian} serve --config {folder}/meridian.yaml"


def configure_bind(folder, _, limited):
    put(folder / "zone", ZONE)
    limit = f"rate-limit {{ responses-per-second {LIMIT}; }};" if limited else ""
    put(folder / "named.conf", f"""options {{
  directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/key"; lock-file none;
  listen-on port {PORT} {{ {ADDRESS}; }}; listen-on-v6 {{ none; }}; recursion no; {limit}
}};
controls {{ }};
logging {{ category default {{ null; }}; }};
zone "example.com" {{ type primary; file "zone"; }};
""")
    return f"/usr/sbin/named -g -c {folder}/named.conf"


def configure_knot(folder, _, limited):
    put(folder / "zone", ZONE)
    limit = f"mod-rrl:\n  - id: limit\n    rate-limit: {LIMIT}\n" if limited else ""
    put(folder / "knot.conf", f"""server:
    rundir: "{folder}"
    listen: {ADDRESS}@{PORT}
log:
  - target: stderr
    any: critical
database:
    storage: "{folder}/db"
{limit}zone:
  - domain: example.com
    file: "{folder}/zone"
    zonefile-sync: -1
    journal-content: none
""" + ("    module: mod-rrl/limit\n" if limited else ""))
    return f"/usr/sbin/knotd -c {folder}/knot.conf"


def configure_nsd(folder, _, limited):
    put(folder / "zone", ZONE)
    # As shipped it has a limit of 200.
    limit = f"    rrl-ratelimit: {LIMIT}\n" if limited else ""
    put(folder / "nsd.conf", f"""server:
    ip-address: {ADDRESS}@{PORT}
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: "{folder}/pid"
    xfrdfile: ""
    xfrdir: "{folder}"
    zonelistfile: "{folder}/zone.list"
    logfile: "{folder}/nsd.log"
{limit}remote-control:
    control-enable: no
zone:
    name: example.com
    zonefile: zone
""")
    return f"/usr/sbin/nsd -d -c {folder}/nsd.conf"


def configure_gdnsd(folder, _, limited):
    put(folder / "zones/example.com", ZONE)
    put(folder / "config", f"options => {{ listen => [ {ADDRESS}:{PORT} ], run_dir => {folder}/run, state_dir => {folder}/state }}\n")
    return f"/usr/sbin/gdnsd -c {folder} start"


def configure_powerdns(folder, _, limited):
    put(folder / "zone", ZONE)
    put(folder / "named.conf", f'zone "example.com" {{ type master; file "{folder}/zone"; }};\n')
    put(folder / "pdns.conf", f"""daemon=no
guardian=no
disable-syslog=yes
loglevel=2
write-pid=no
local-address={ADDRESS}
local-port={PORT}
socket-dir={folder}
security-poll-suffix=
launch=bind
bind-config={folder}/named.conf
""")
    return f"/usr/sbin/pdns_server --config-dir={folder}"


CONFIGURE = {key: globals()[f"configure_{key}"] for key in SERVERS}
LIMITED = ["meridian", "bind", "knot", "nsd"]


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
