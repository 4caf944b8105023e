"""Start, memory and reload: many zones, one zone of many names, the city database. No server is held to one CPU here.

Each of the many zones has ten records; SOA, 2 NS, addresses of five names. One reload: a file is written anew and renamed into
place, the server is told, of that zone alone if it can be, and the clock stops at the first answer with the new address. Meanwhile
another zone is asked; its slowest answer is the stall.
"""

import copy
import os
import shutil
import subprocess
import time

from . import dns
from .paths import CITY, COUNTRY, RUN, Trouble
from .process import Process
from .results import median, number, present, table
from .server import Server

PORT = 5450
ALL_CPUS = set(range(os.cpu_count()))
FIRST_ADDRESS, NEW_ADDRESS = "198.51.100.1", "203.0.113.1"
ROUNDS = 3  # starts vary little
WARM = 1.1  # seconds: mtime counts whole seconds for some servers


def run(servers, options):
    chosen = {server.name for server in servers}
    by_name = {server.name: server for server in servers}
    rounds, used, many, city = min(options.rounds, ROUNDS), [], [], []
    for count, names in [(count, 0) for count in options.zones] + [(1, options.names)]:
        for name, write in LAYOUTS.items():
            if name not in chosen:
                continue
            measured = [line for _ in range(rounds if not names else 1)
                        if (line := attempt(name, start_zones, by_name[name], write, count, names))]
            used.append(by_name[name])
            if measured:
                of = lambda key: median(line[key] for line in measured)
                many.append([f"{count:,} zones" if not names else f"1 zone, {names:,} names", name, number(of("start"), 3), number(of("cpu"), 2),
                             number(of("resident")), number(of("private")), number(of("reload"), 3), number(of("stall"), 1), number(of("peak"))])
    for server in servers:
        if "geosrc" in server.work and not server.echo:
            used.append(server)
            for case in ("first", "again", "cold"):
                measured = [line for _ in range(rounds) if (line := attempt(server.name, start_city, server, case))]
                if measured:
                    of = lambda key: median(line[key] for line in measured)
                    city.append([CASES[case], server.name, number(of("start"), 3), number(of("cpu"), 2), number(of("resident")),
                                 number(of("private")), number(of("peak"))])
    memory = ["resident MB", "private MB"]
    body = "\n\n".join([
        table(["what", "server", "start s", "CPU s", *memory, "reload s", "stall ms", "peak MB"], many),
        table(["city database", "server", "first answer s", "CPU s", *memory, "peak MB"], city),
    ])
    how = (f"From exec until the first, the middle and the last zone (or name) are answered; reload: one changed file. Medians of {rounds}, the large "
           "zone once. meridian reads YAML zones, the large one as a master file; meridian, gdnsd and BIND are told to look "
           "at all their zones, the others at the changed one; PowerDNS may go on to answer from its cache for 20 s. "
           "resident counts shared pages in part, private is what was written, peak is the most ever resident, reload included.")
    present(options.results, "Start and reload", how, dict.fromkeys(used), body)


def attempt(name, measure, *arguments):
    try:
        found = measure(*arguments)
    except Trouble as trouble:
        print(f"{name}: {trouble}", flush=True)
        return None
    print(name, {key: round(value, 3) for key, value in found.items()}, flush=True)
    return found


# --- many zones, many names

def start_zones(server, write, count, names):
    folder = RUN / "start"
    shutil.rmtree(folder, ignore_errors=True)
    zones = folder / "zones"
    zones.mkdir(parents=True)
    written = as_yaml if server.name == "meridian" and not names else as_master_file
    suffix = {as_yaml: ".yaml", as_master_file: ".zone"}[written] if server.name == "meridian" else ""
    put = lambda index, serial, address: place(zones / (zone(index) + suffix), written(index, serial, address, names))
    for index in range(count):
        put(index, 1, FIRST_ADDRESS)
    start, tell = write(server, folder, [zone(index) for index in range(count)])
    process = Process(server.name, folder, PORT, start)
    middle, last_name = count // 2, f"h{names - 1:07}" if names else "www"
    try:
        process.spawn(cpus=ALL_CPUS)
        for name in (f"www.{zone(0)}", f"www.{zone(middle)}", f"{last_name}.{zone(count - 1)}"):
            seconds = process.wait_until_it_answers(name)
        found = {"start": seconds, "cpu": sum(process.cpu())}
        time.sleep(WARM)
        found |= process.memory()
        found |= reload(process, middle, tell, lambda: put(middle, 2, NEW_ADDRESS), f"h0000000.{zone(0)}")
        return found | {"peak": process.memory()["peak"]}
    finally:
        process.stop()
        shutil.rmtree(folder, ignore_errors=True)


def reload(process, changed, tell, write, other):
    begin = time.monotonic()
    write()
    written = time.monotonic()  # writing a large file is not the server's time
    told = subprocess.Popen([word.replace("@ZONE@", zone(changed)).replace("@PID@", str(process.process.pid)) for word in tell.split()],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stall, seen = 0, None
    while not seen and time.monotonic() < begin + 60:
        answer = dns.ask(process.port, f"www.{zone(changed)}", timeout=3)
        if answer and NEW_ADDRESS in answer.addresses:
            seen = time.monotonic() - written
        asked = time.monotonic()
        dns.ask(process.port, other, timeout=3)
        stall = max(stall, time.monotonic() - asked)
        time.sleep(0.0005)
    told.wait(60)
    if not seen:
        raise Trouble("the changed zone was not seen within a minute")
    return {"reload": seen, "stall": stall * 1e3}


def zone(index):
    return f"z{index:05}.test"


def place(path, text):
    part = path.parent.parent / "part"
    part.write_text(text)
    part.rename(path)


def hosts(names):
    return ((f"h{index:07}", f"198.51.{index >> 8 & 255}.{index & 255}") for index in range(names or 3))


def as_master_file(index, serial, address, names):
    head = [f"$ORIGIN {zone(index)}.", "$TTL 300", f"@ IN SOA ns1 host {serial} 7200 900 1209600 300", "@ IN NS ns1", "@ IN NS ns2",
            "ns1 IN A 192.0.2.53", "ns2 IN A 192.0.2.54", f"www IN A {address}", "www IN AAAA 2001:db8::1"]
    return "\n".join(head + [f"{name} IN A {data}" for name, data in hosts(names)]) + "\n"


def as_yaml(index, serial, address, names):
    head = ["ttl: 300", f"soa: {{ primary: ns1, contact: host@{zone(index)}, serial: {serial}, negative_ttl: 300 }}", "records:",
            '  "@": { NS: [ns1, ns2] }', "  ns1: { A: 192.0.2.53 }", "  ns2: { A: 192.0.2.54 }",
            f'  www: {{ A: {address}, AAAA: "2001:db8::1" }}']
    return "\n".join(head + [f"  {name}: {{ A: {data} }}" for name, data in hosts(names)]) + "\n"


# --- a configuration for many zones: each gives the command that starts the server and the one that tells it of a change

def configuration(server, file, folder, until=None):
    """A server's own configuration from servers/, for another folder and port, up to a line if what follows is about zones."""
    moved = copy.copy(server)
    moved.folder, moved.port = folder, PORT
    text = moved.filled((server.templates / file).read_text())
    return text[:text.index(until)] if until else text


def meridian(server, folder, zones):
    (folder / "meridian.yaml").write_text(
        f'listen: "127.0.0.1:{PORT}"\nzones: zones\ncontrol: meridian.sock\nstate: state\n')
    # it watches its files, too, but waits a moment for a writer to finish
    return f"{server.meridian} serve --config {folder}/meridian.yaml", f"{server.meridian} reload --control {folder}/meridian.sock"


def gdnsd(server, folder, zones):
    text = configuration(server, "config", folder, "$include")
    (folder / "config").write_text(text)
    return f"/usr/sbin/gdnsd -c {folder} start", f"/usr/bin/gdnsdctl -c {folder} reload-zones"


def knot(server, folder, zones):
    text = configuration(server, "knot.conf", folder, "zone:\n")
    text += (f"template:\n  - id: default\n    storage: {folder}/zones\n    file: \"%s\"\n    zonefile-sync: -1\n"
             "    zonefile-load: whole\n    journal-content: none\nzone:\n")
    (folder / "knot.conf").write_text(text + "".join(f"  - domain: {name}\n" for name in zones))
    return f"/usr/sbin/knotd -c {folder}/knot.conf", f"/usr/sbin/knotc -s {folder}/knot.sock zone-reload @ZONE@"


def nsd(server, folder, zones):
    text = configuration(server, "nsd.conf", folder, "zone:\n").replace(f'zonesdir: "{folder}"', f'zonesdir: "{folder}/zones"')
    (folder / "nsd.conf").write_text(text + "".join(f"zone:\n    name: {name}\n    zonefile: {name}\n" for name in zones))
    return f"/usr/sbin/nsd -d -c {folder}/nsd.conf", f"/usr/sbin/nsd-control -c {folder}/nsd.conf reload @ZONE@"


def bind(server, folder, zones):
    text = configuration(server, "named.conf", folder, "zone ")
    text += "".join(f'zone "{name}" {{ type primary; file "{folder}/zones/{name}"; }};\n' for name in zones)
    (folder / "named.conf").write_text(text)
    return f"/usr/sbin/named -g -c {folder}/named.conf", "/bin/kill -HUP @PID@"


def powerdns(server, folder, zones):
    text = configuration(server, "pdns.conf", folder, "launch=") + f"launch=bind\nbind-config={folder}/named.conf\n"
    (folder / "pdns.conf").write_text(text)
    (folder / "named.conf").write_text("".join(f'zone "{name}" {{ type master; file "{folder}/zones/{name}"; }};\n' for name in zones))
    return f"/usr/sbin/pdns_server --config-dir={folder}", f"/usr/bin/pdns_control --config-dir={folder} bind-reload-now @ZONE@"


LAYOUTS = {"meridian": meridian, "gdnsd": gdnsd, "knot-static": knot, "nsd": nsd, "bind-static": bind, "pdns-static": powerdns}


# --- the city database

CASES = {"first": "first start", "again": "started again", "cold": "started again, the file not in memory"}


def start_city(server, case):
    if case == "first" or not server.folder.exists():
        server.prepare()
    for path in (CITY, COUNTRY):
        with open(path, "rb") as file:
            if case == "cold":
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.read(1 << 24):
                    pass
    try:
        server.spawn(cpus=ALL_CPUS)
        seconds = server.wait_until_it_answers("www.example.com")
        return {"start": seconds, "cpu": sum(server.cpu())} | server.memory()
    finally:
        server.stop()
