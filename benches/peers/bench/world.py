"""What is served and what is asked: one zone in each server's own words, and the queries.

example.com has 1,000 names with A and AAAA, and `www`, which is answered with the nearest of six sites. All first labels but
those of www's helpers have three characters, so that queries have one length and can leave in trains.
"""

import json
import random
import shutil

from .paths import CENTROIDS, CITY, COUNTRY, WORLD
from .sites import BLOCKS, BLOCK_NETWORKS, SITES, nearest

LABELS = [f"{chr(97 + index // 100)}{index % 100:02}" for index in range(1000)]  # a00 to j99
HOSTS = [(label, f"198.51.100.{index % 250 + 1}", f"2001:db8:1::{index + 1:x}") for index, label in enumerate(LABELS)]
FIRST_HOST = f"{LABELS[0]}.example.com"
SOA = "ns1.example.com. host.example.com. 1 7200 900 1209600 300"


def make():
    shutil.rmtree(WORLD, ignore_errors=True)
    master_files()
    meridian()
    gdnsd()
    # Knot, PowerDNS and BIND cannot all measure distances: they get the nearest site of each country's middle.
    middles = json.loads(CENTROIDS.read_text())
    countries = {code: nearest(*place[:2]) for code, place in sorted(middles.items()) if len(code) == 2 and code.isalpha()}
    knot(countries)
    bind(countries)
    powerdns(countries)
    queries()


def put(name, lines):
    path = WORLD / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def master_file(*www):
    return ["$ORIGIN example.com.", "$TTL 300", f"@ 3600 IN SOA {SOA}", "@ 3600 IN NS ns1", "@ 3600 IN NS ns2",
            "ns1 3600 IN A 192.0.2.53", "ns2 3600 IN A 192.0.2.54", *www,
            *(f"{label} IN A {v4}\n{label} IN AAAA {v6}" for label, v4, v6 in HOSTS)]


def fixed(site):
    return f"www 60 IN A {site.v4}", f"www 60 IN AAAA {site.v6}"


def master_files():
    """For servers without geography www is one site's."""
    put("static.zone", master_file(*fixed(SITES["use"])))


def meridian():
    put("meridian/sites.yaml", [
        "sites:",
        *(f'  {s.name}: {{ location: [{s.latitude}, {s.longitude}], A: {s.v4}, AAAA: "{s.v6}" }}' for s in SITES.values()),
        "services:",
        "  web:",
        "    ttl: 60",
        f"    sites: [{', '.join(SITES)}]",
        "    rules:",  # loopback addresses are never looked up in a database
        *(f"      - {{ subnet: {network}, sites: [{site}] }}" for network, (_, site) in zip(BLOCK_NETWORKS, BLOCKS)),
    ])
    put("meridian/example.com.yaml", [
        "ttl: 300",
        "soa: { primary: ns1, contact: host@example.com, serial: 1, refresh: 2h, retry: 15m, expire: 2w, negative_ttl: 300, ttl: 1h }",
        "records:",
        '  "@": { NS: { ttl: 3600, data: [ns1, ns2] } }',
        "  ns1: { A: { ttl: 3600, data: 192.0.2.53 } }",
        "  ns2: { A: { ttl: 3600, data: 192.0.2.54 } }",
        "  www: { service: web }",
        *(f'  {label}: {{ A: {v4}, AAAA: "{v6}" }}' for label, v4, v6 in HOSTS),
    ])


def gdnsd():
    put("gdnsd/example.com", master_file("www 60 DYNA geoip!www"))
    put("gdnsd/geoip.inc", [
        "plugins => { geoip => {",
        "  maps => { nearest => {",
        f"    geoip2_db => {CITY}",
        f"    datacenters => [ {', '.join(SITES)} ]",
        "    auto_dc_coords => { " + ", ".join(f"{s.name} => [ {s.latitude}, {s.longitude} ]" for s in SITES.values()) + " }",
        "    auto_dc_limit => 3",
        "  } }",
        "  resources => { www => { map => nearest, service_types => up, dcmap => {",
        *(f"    {s.name} => {{ addrs_v4 => {{ a => {s.v4} }}, addrs_v6 => {{ a => {s.v6} }} }}" for s in SITES.values()),
        "  } } }",
        "} }",
    ])


def knot(countries):
    put("knot/geo.conf", ["www.example.com:", *(
        f'  - geo: "{code}"\n    A: {SITES[site].v4}\n    AAAA: {SITES[site].v6}' for code, site in countries.items())])


def bind(countries):
    for site in SITES.values():
        put(f"bind/{site.name}.zone", master_file(*fixed(site)))
    view = lambda name, clients, site: (
        f'view "{name}" {{ match-clients {{ {clients}; }}; '
        f'zone "example.com" {{ type primary; file "{WORLD}/bind/{site}.zone"; }}; }};')
    put("bind/views.conf", [
        *(f'acl "{site}" {{ {" ".join(f"geoip country {code};" for code in countries if countries[code] == site)} }};' for site in SITES),
        *(view(site, site, site) for site in SITES), view("other", "any", "use")])
    (WORLD / "bind/geoip").mkdir()  # BIND knows databases by these names
    for kind, path in (("City", CITY), ("Country", COUNTRY)):
        (WORLD / f"bind/geoip/GeoLite2-{kind}.mmdb").symlink_to(path)


def powerdns(countries):
    record = lambda name, *data: [f"    {name}:", *(f"      - {item}" for item in data)]
    geo = lambda name, site: record(
        f"{name}.geo.example.com", f"a: {{content: {SITES[site].v4}, ttl: 60}}", f"aaaa: {{content: '{SITES[site].v6}', ttl: 60}}")
    lines = ["domains:", "- domain: example.com", "  ttl: 300", "  records:",
             *record("example.com", "soa: " + SOA.replace(". ", " "), "ns: ns1.example.com", "ns: ns2.example.com"),
             *record("ns1.example.com", "a: 192.0.2.53"), *record("ns2.example.com", "a: 192.0.2.54")]
    for code, site in countries.items():
        lines += geo(code.lower(), site)
    lines += geo("default", "use")
    for label, v4, v6 in HOSTS:
        lines += record(f"{label}.example.com", f"a: {v4}", f"aaaa: '{v6}'")
    put("pdns/geo.yaml", lines + ["  services:", "    www.example.com: ['%cc.geo.example.com', 'default.geo.example.com']"])
    put("pdns/no-zones.yaml", ["domains: []"])
    lua = lambda kind, addresses: f'www 60 IN LUA {kind} "pickclosest({{{",".join(repr(str(a)) for a in addresses)}}})"'
    put("pdns/lua.zone", master_file(lua("A", [s.v4 for s in SITES.values()]), lua("AAAA", [s.v6 for s in SITES.values()])))
    for name, path in (("lua", "pdns/lua.zone"), ("static", "static.zone")):
        put(f"pdns/{name}.conf", [f'zone "example.com" {{ type master; file "{WORLD}/{path}"; }};'])


def queries():
    chance = random.Random(20)
    static = [f"{label}.example.com {kind}" for label in LABELS for kind in ("A", "AAAA")]
    chance.shuffle(static)
    missing = lambda: "".join([chance.choice("klmnopqrst"), *chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=2)])
    mixed = lambda: chance.choices(["www.example.com A", chance.choice(static), f"{missing()}.example.com A"], [70, 20, 10])[0]
    put("queries/www", ["www.example.com A"])
    put("queries/static", static)
    put("queries/nxdomain", ["abcdefghijkl.example.com A"])  # the label is another one in each query
    put("queries/mixed", [mixed() for _ in range(50000)])
