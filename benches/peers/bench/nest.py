#!/usr/bin/python3
"""Turns flat MMDB files (npm @ip-location-db/*, one for each family) into ONE in MaxMind's schema, as all servers here read it.

The search trees stay as they are and only what their leaves point to is written anew, so that millions of nodes take a minute and
not the hours of inserting network by network. The IPv4 tree is hung in at ::/96. Three things are put in by hand:

- 127.0.0.0/8 in four blocks (DE, US, JP, BR), so that answers by source address differ over loopback;
- the addresses of the six sites, for servers that look up where a site is;
- an accuracy radius of 50 km, without which PowerDNS drops a location.

Run by Debian's own Python, which has numpy as a package:

    nest.py --v4 FILE --v6 FILE --out FILE --type NAME --continents countries.min.json [--centroids FILE]
"""

import argparse
import json
import pathlib
import struct
import sys
import time

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from bench.mmdb import GAP, MARK, Reader, decode
from bench.sites import BLOCKS, SITES

EMPTY = -1  # in trees while they are worked on: -1 nothing, -(2 + offset) data, else a node


def read_tree(reader):
    nodes, width = reader.nodes, reader.record_size // 4
    octets = numpy.frombuffer(reader.file, numpy.uint8, nodes * width).reshape(nodes, width).astype(numpy.uint32)
    joined = lambda *columns: sum(octets[:, column] << 8 * place for place, column in enumerate(reversed(columns)))
    if reader.record_size == 24:
        left, right = joined(0, 1, 2), joined(3, 4, 5)
    elif reader.record_size == 28:
        left = (octets[:, 3] >> 4) << 24 | joined(0, 1, 2)
        right = (octets[:, 3] & 15) << 24 | joined(4, 5, 6)
    else:
        left, right = joined(0, 1, 2, 3), joined(4, 5, 6, 7)
    return numpy.stack([left, right], 1).astype(numpy.int64)


def head(kind, size):
    first, extended = (kind << 5, b"") if kind <= 7 else (0, bytes([kind - 7]))
    if size < 29:
        return bytes([first | size]) + extended
    if size < 285:
        return bytes([first | 29]) + extended + bytes([size - 29])
    return bytes([first | 30]) + extended + struct.pack(">H", size - 285)


def unsigned(value, kind=6):
    octets = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return head(kind, len(octets)) + octets


class Short(int):
    """Written with 16 bits."""


def scalar(value):
    if isinstance(value, str):
        octets = value.encode()
        return head(2, len(octets)) + octets
    if isinstance(value, float):
        return head(3, 8) + struct.pack(">d", value)
    return unsigned(value, 5 if isinstance(value, Short) else 6)


def pointer(offset):
    if offset < 2048:
        return bytes([1 << 5 | offset >> 8, offset & 255])
    if offset < 526336:
        offset -= 2048
        return bytes([1 << 5 | 1 << 3 | offset >> 16]) + (offset & 0xFFFF).to_bytes(2, "big")
    if offset < 134744064:
        offset -= 526336
        return bytes([1 << 5 | 2 << 3 | offset >> 24]) + (offset & 0xFFFFFF).to_bytes(3, "big")
    return bytes([1 << 5 | 3 << 3]) + offset.to_bytes(4, "big")


class Data:
    """A data section in which equal values stand once."""

    def __init__(self):
        self.octets = bytearray()
        self.places = {}

    def record(self, value):
        """The offset of a leaf's value, which may not be a pointer itself."""
        return self.once(value, self.mapping)

    def once(self, value, write):
        key = json.dumps(value, sort_keys=True)
        if key not in self.places:
            octets = write(value)
            self.places[key] = len(self.octets)
            self.octets += octets
        return self.places[key]

    def mapping(self, value):
        return head(7, len(value)) + b"".join(self.value(key) + self.value(item) for key, item in value.items())

    def value(self, value):
        if isinstance(value, dict):
            return pointer(self.once(value, self.mapping))
        if isinstance(value, list):
            return pointer(self.once(value, lambda items: head(11, len(items)) + b"".join(map(self.value, items))))
        if isinstance(value, str) and len(value) > 3:
            return pointer(self.once(value, scalar))
        return scalar(value)


class Nesting:
    """A flat record in MaxMind's schema."""

    def __init__(self, continents):
        self.continents = continents
        self.countries = {}

    def __call__(self, flat):
        country, nested = flat.get("country_code") or "", {}
        if flat.get("city"):
            nested["city"] = {"names": {"en": flat["city"]}}
        if country:
            continent = self.continents.get(country)
            if continent:
                nested["continent"] = {"code": continent, "names": {"en": "Continent " + continent}}
            number = self.countries.setdefault(country, 6000000 + len(self.countries))
            nested["country"] = {"geoname_id": number, "iso_code": country, "names": {"en": "Country " + country}}
        if "latitude" in flat:
            place = {key: round(float(flat[key]), 4) for key in ("latitude", "longitude")}
            nested["location"] = {"accuracy_radius": Short(50)} | place
        if flat.get("state1"):
            nested["subdivisions"] = [{"names": {"en": flat["state1"]}}]
        return nested


class Tree:
    """The search tree, into which single networks can still be put."""

    def __init__(self, v6, v4):
        v4 = numpy.where(v4 >= 0, v4 + len(v6), v4)
        self.nodes, self.more = numpy.concatenate([v6, v4]), []
        self.insert(0, 96, len(v6))

    def get(self, node, bit):
        return int(self.nodes[node, bit]) if node < len(self.nodes) else self.more[node - len(self.nodes)][bit]

    def put(self, node, bit, value):
        if node < len(self.nodes):
            self.nodes[node, bit] = value
        else:
            self.more[node - len(self.nodes)][bit] = value

    def insert(self, address, length, value):
        node = 0
        for place in range(length - 1):
            bit = address >> 127 - place & 1
            child = self.get(node, bit)
            if child < 0:  # a leaf that is larger than this network: both halves have what it has
                self.more.append([child, child])
                child = len(self.nodes) + len(self.more) - 1
                self.put(node, bit, child)
            node = child
        self.put(node, address >> 128 - length & 1, value)

    def whole(self):
        return numpy.concatenate([self.nodes, numpy.array(self.more, numpy.int64).reshape(-1, 2)])


def main():
    arguments = argparse.ArgumentParser()
    for name in ("v4", "v6", "out", "type", "continents"):
        arguments.add_argument("--" + name, required=True)
    arguments.add_argument("--centroids")
    arguments = arguments.parse_args()
    countries = json.load(open(arguments.continents))
    nest = Nesting({code: country["continent"] for code, country in countries.items()})
    data, centroids, trees = Data(), {}, []

    for path in (arguments.v6, arguments.v4):
        reader = Reader(path)
        tree = read_tree(reader)
        leaves = tree > reader.nodes
        records, which, counts = numpy.unique(tree[leaves], return_inverse=True, return_counts=True)
        source = bytes(reader.data)
        offsets = numpy.empty(len(records), numpy.int64)
        for index, record in enumerate(records.tolist()):
            flat = decode(source, record - reader.nodes - GAP)[0]
            offsets[index] = data.record(nest(flat))
            if path == arguments.v4 and "latitude" in flat and flat.get("country_code"):
                middle, count = centroids.setdefault(flat["country_code"], [0, 0.0, 0.0]), int(counts[index])
                middle[0] += count
                middle[1] += float(flat["latitude"]) * count
                middle[2] += float(flat["longitude"]) * count
        marked = tree.copy()
        marked[tree == reader.nodes] = EMPTY
        marked[leaves] = -(2 + offsets[which])
        trees.append(marked)

    tree = Tree(*trees)
    leaf = lambda flat: -(2 + data.record(nest(flat)))
    with_places = arguments.centroids is not None
    for index, (country, site) in enumerate(BLOCKS):
        place = {"latitude": SITES[site].latitude, "longitude": SITES[site].longitude, "city": country} if with_places else {}
        tree.insert(127 << 24 | index << 22, 96 + 10, leaf({"country_code": country} | place))
    for site in SITES.values() if with_places else ():
        place = leaf({"country_code": site.country, "latitude": site.latitude, "longitude": site.longitude})
        tree.insert(int(site.v4), 128, place)
        tree.insert(int(site.v6), 128, place)
    write(pathlib.Path(arguments.out), tree.whole(), bytes(data.octets), arguments.type)
    if arguments.centroids:
        means = {code: [round(latitude / count, 3), round(longitude / count, 3)]
                 for code, (count, latitude, longitude) in sorted(centroids.items())}
        pathlib.Path(arguments.centroids).write_text(json.dumps(means))


def write(path, tree, data, kind):
    nodes = len(tree)
    final = numpy.where(tree == EMPTY, nodes, numpy.where(tree < EMPTY, nodes + GAP - tree - 2, tree)).astype(numpy.uint32)
    top = int(final.max())
    size = 24 if top < 1 << 24 else 28 if top < 1 << 28 else 32
    left, right = final[:, 0], final[:, 1]
    three = lambda record: [record >> 16 & 255, record >> 8 & 255, record & 255]
    if size == 24:
        octets = numpy.stack(three(left) + three(right), 1).astype(numpy.uint8)
    elif size == 28:
        octets = numpy.stack(three(left) + [(left >> 24 & 15) << 4 | right >> 24 & 15] + three(right), 1).astype(numpy.uint8)
    else:
        octets = numpy.stack([left, right], 1).astype(">u4")
    pairs = {
        "binary_format_major_version": unsigned(2, 5), "binary_format_minor_version": unsigned(0, 5),
        "build_epoch": unsigned(int(time.time()), 9), "database_type": scalar(kind),
        "description": head(7, 1) + scalar("en") + scalar("joined and nested for a bench"), "ip_version": unsigned(6, 5),
        "languages": head(11, 1) + scalar("en"), "node_count": unsigned(nodes), "record_size": unsigned(size, 5),
    }
    metadata = head(7, len(pairs)) + b"".join(scalar(key) + value for key, value in pairs.items())
    part = path.with_suffix(".part")  # a broken run leaves nothing that looks whole
    with open(part, "wb") as file:
        file.write(octets.tobytes() + bytes(GAP) + data + MARK + metadata)
    part.rename(path)


main()
