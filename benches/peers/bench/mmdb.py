"""Reads MMDB files: enough to turn other people's databases into ours, and to look one address up."""

import ipaddress
import mmap
import struct

MARK = b"\xab\xcd\xefMaxMind.com"  # before the metadata
GAP = 16                            # octets between the search tree and the data


def decode(data, at):
    """The value at an offset of a data section, and the offset behind it."""
    control = data[at]
    at += 1
    kind, size = control >> 5, control & 31
    if kind == 1:  # a pointer
        width = (control >> 3 & 3) + 1
        offset = int.from_bytes(data[at:at + width], "big")
        if width < 4:
            offset += ((control & 7) << 8 * width) + (0, 2048, 526336)[width - 1]
        return decode(data, offset)[0], at + width
    if kind == 0:  # an extended kind
        kind = 7 + data[at]
        at += 1
    if size >= 29:
        width = size - 28
        size = int.from_bytes(data[at:at + width], "big") + (29, 285, 65821)[width - 1]
        at += width
    if kind == 7:
        value = {}
        for _ in range(size):
            key, at = decode(data, at)
            value[key], at = decode(data, at)
        return value, at
    if kind == 11:
        value = []
        for _ in range(size):
            item, at = decode(data, at)
            value.append(item)
        return value, at
    if kind == 14:
        return bool(size), at
    octets, at = data[at:at + size], at + size
    if kind == 2:
        return octets.decode(), at
    if kind == 3:
        return struct.unpack(">d", octets)[0], at
    if kind == 15:
        return struct.unpack(">f", octets)[0], at
    return int.from_bytes(octets, "big"), at


class Reader:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        mark = self.file.rfind(MARK)
        self.metadata = decode(self.file[mark + len(MARK):], 0)[0]
        self.nodes, self.record_size = self.metadata["node_count"], self.metadata["record_size"]
        self.tree_size = self.nodes * self.record_size // 4
        self.data = memoryview(self.file)[self.tree_size + GAP:mark]

    def lookup(self, address):
        """What is known of an IPv4 address, or None; of databases with both families in one tree."""
        value, node = int(ipaddress.IPv4Address(address)), 0
        for bit in range(128):
            node = self.child(node, value >> 127 - bit & 1)
            if node >= self.nodes:
                break
        if node == self.nodes:
            return None
        return decode(BytesOf(self.data), node - self.nodes - GAP)[0]

    def child(self, node, right):
        width = self.record_size // 4
        octets = self.file[node * width:(node + 1) * width]
        if self.record_size == 24:
            return int.from_bytes(octets[3:6] if right else octets[:3], "big")
        if self.record_size == 28:
            high = octets[3] & 15 if right else octets[3] >> 4
            return high << 24 | int.from_bytes(octets[4:7] if right else octets[:3], "big")
        return int.from_bytes(octets[4:8] if right else octets[:4], "big")


class BytesOf:
    """A view whose slices are bytes, so that the data section is never copied whole."""

    def __init__(self, view):
        self.view = view

    def __getitem__(self, at):
        item = self.view[at]
        return item if isinstance(item, int) else bytes(item)
