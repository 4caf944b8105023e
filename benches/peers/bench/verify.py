"""Does each server do the work at all? One that names one site to everybody is fast, too.

Before anything is timed: response codes of each work; the sites of 1,000 random client subnets, held against the nearest by
the database's own coordinates; for meridian site and scope of each, held against `meridian check`, which asks the code behind
`meridian explain` and starts once for all of them.
"""

import functools
import ipaddress
import random
import shutil
import subprocess

from . import dns
from .client import measure
from .mmdb import Reader
from .paths import CITY, RUN, WORLD, Trouble
from .sites import BLOCK_CLIENTS, SITE_OF, nearest

WWW = "www.example.com"
EXPECTED = {"nxdomain": {"3": 1}, "mixed": {"0": 0.9, "3": 0.1}}  # parts of all answers by RCODE; else NOERROR alone
SAMPLE = 1000
LEAST_AGREEMENT = 0.6  # with the nearest site: a country's one site is not the nearest to all of it


def verify(server, works):
    """What was found, in words; Trouble, if the server does other work than it should."""
    for work in works:
        figures = measure(server, work, 0.3, calm=False)
        if figures["other_question"] or figures["truncated"]:
            raise Trouble(f"{work}: answers to other questions, or truncated ones: {figures}")
        if not server.echo:
            check_rcodes(work, figures)
    if server.echo:
        return "echoes"
    found = ["response codes as expected"]
    if "geosrc" in works:
        check_sources(server)
        found.append("four sources, four sites")
    if "geo" in works:
        answers = {subnet: ask(server, subnet=subnet) for subnet in random_subnets()}
        found.append(compare_with_nearest(answers))
        if server.name == "meridian":
            found.append(compare_with_check(server, answers))
    return "; ".join(found)


def check_rcodes(work, figures):
    wanted = EXPECTED.get(work, {"0": 1})
    parts = {rcode: count / figures["answered"] for rcode, count in figures["rcodes"].items()}
    tolerance = 0.05 if len(wanted) > 1 else 0  # a mixture is a sample
    if figures["without_records"] or any(abs(parts.get(code, 0) - wanted.get(code, 0)) > tolerance for code in parts | wanted):
        raise Trouble(f"{work}: RCODEs {figures['rcodes']}, {figures['without_records']} NOERROR without records; "
                      f"expected the parts {wanted}")


def ask(server, **how):
    """(site, scope)"""
    for _ in range(3):
        answer = dns.ask(server.port, WWW, **how)
        if answer and len(answer.addresses) == 1 and answer.addresses[0] in SITE_OF:
            return SITE_OF[answer.addresses[0]], answer.scope
    raise Trouble(f"{WWW} for {how}: {answer}")


def check_sources(server):
    for source, site in BLOCK_CLIENTS.items():
        found, _ = ask(server, source=source)
        if found != site:
            raise Trouble(f"{WWW} from {source} is {found}, not {site}")


@functools.cache
def random_subnets():
    """Global ones: for others a server may go by the source address, which no brute force knows."""
    chance, subnets = random.Random(4), set()
    while len(subnets) < SAMPLE:
        network = ipaddress.ip_network((chance.randrange(1 << 24, 224 << 24) & ~255, 24))
        if network.is_global:
            subnets.add(str(network))
    return sorted(subnets)


@functools.cache
def nearest_sites():
    database, sites = Reader(CITY), {}
    for subnet in random_subnets():
        place = (database.lookup(subnet.split("/")[0]) or {}).get("location")
        if place:
            sites[subnet] = nearest(place["latitude"], place["longitude"])
    return sites


def compare_with_nearest(answers):
    sites = nearest_sites()
    agreeing = sum(answers[subnet][0] == site for subnet, site in sites.items())
    used = {site for site, _ in answers.values()}
    text = f"{agreeing / len(sites):.1%} of {len(sites)} subnets with a place get the nearest site, {len(used)} sites in use"
    if len(used) < 2 or agreeing < LEAST_AGREEMENT * len(sites):
        raise Trouble(text)
    return text


def compare_with_check(server, answers):
    folder = RUN / "expected"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(WORLD / "meridian", folder)
    with open(folder / "example.com.yaml", "a") as zone:
        zone.write("expect:\n")
        for subnet, (site, scope) in answers.items():
            zone.write(f"  - {{ name: www, from: {subnet}, site: {site}, scope: {scope} }}\n")
    command = [server.meridian, "check", "--config", server.folder / "meridian.yaml", "--zones", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Trouble(f"its own check finds other answers:\n{(done.stdout + done.stderr)[-1500:]}")
    return f"`meridian check` agrees with site and scope of all {len(answers)}"
