"""The six sites that every server has, and the blocks of loopback addresses that stand for clients near four of them."""

import dataclasses
import ipaddress
import math


@dataclasses.dataclass(frozen=True)
class Site:
    name: str
    country: str
    latitude: float
    longitude: float
    v4: ipaddress.IPv4Address
    v6: ipaddress.IPv6Address


SITES = {
    name: Site(name, country, latitude, longitude,
               ipaddress.IPv4Address(f"192.0.2.{number}"), ipaddress.IPv6Address(f"2001:db8:0:{number}::1"))
    for number, (name, country, latitude, longitude) in enumerate([
        ("use", "US", 39.04, -77.49), ("usw", "US", 45.84, -119.70), ("euc", "DE", 50.11, 8.68),
        ("aps", "SG", 1.35, 103.82), ("apn", "JP", 35.68, 139.69), ("sae", "BR", -23.55, -46.63),
    ], 1)
}
SITE_OF = {str(address): site.name for site in SITES.values() for address in (site.v4, site.v6)}

# 127.0.0.0/10, 127.64.0.0/10, 127.128.0.0/10, 127.192.0.0/10
BLOCKS = [("DE", "euc"), ("US", "use"), ("JP", "apn"), ("BR", "sae")]
BLOCK_NETWORKS = [f"127.{64 * index}.0.0/10" for index in range(len(BLOCKS))]
BLOCK_CLIENTS = {f"127.{64 * index}.0.1": site for index, (_, site) in enumerate(BLOCKS)}


def nearest(latitude, longitude):
    def angle(site):
        a, b, c, d = map(math.radians, (latitude, longitude, site.latitude, site.longitude))
        return math.acos(max(-1, min(1, math.sin(a) * math.sin(c) + math.cos(a) * math.cos(c) * math.cos(b - d))))
    return min(SITES.values(), key=angle).name
