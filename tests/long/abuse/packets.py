"""Packets that no library would send: those of tests/scenarios/packets, and what servers make of them.

The words that they are put together from are explained in tests/support/packet.rs.
"""

import asyncio
import pathlib
import re
import socket
import struct

import clients
from servers import ADDRESS, PORT

ROOT = pathlib.Path(__file__).resolve().parents[3]
TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "TXT": 16, "SIG": 24, "AAAA": 28, "OPT": 41, "DS": 43, "RRSIG": 46, "DNSKEY": 48, "TKEY": 249,
         "TSIG": 250, "IXFR": 251, "AXFR": 252, "ANY": 255}
CLASSES = {"IN": 1, "CH": 3, "HS": 4, "NONE": 254}
NOERROR, NXDOMAIN = 0, 3
OPT = 41
# With an OPT an error may say what is wrong: an EDNS header, a cookie and an extended error fit into as much.
ROOM_OF_OPT = 64
# What an answer takes at most; after that it is taken for silence.
PATIENCE = 0.5
AT_A_TIME = {"udp": 32, "tcp": 8}


def read_all():
    """(octets, transports) of each, in order, without repetitions."""
    found = {}
    for path in sorted((ROOT / "tests/scenarios/packets").glob("*.scenario")):
        for line in path.read_text().splitlines():
            if line.startswith("packet "):
                words = line.split()[1:]
                transports = [words.pop()] if words[-1] in ("udp", "tcp") else ["udp", "tcp"]
                found.setdefault(build(words), transports)
    return list(found.items())


def build(words):
    packet = b""
    for word in words:
        if pointers := re.fullmatch(r"pointers:(\d+)", word):
            for _ in range(int(pointers[1])):
                packet += struct.pack(">H", 0xC000 | len(packet) + 2)
        elif repeated := re.fullmatch(r"(\d+)\*([0-9a-f]+)", word):
            packet += bytes.fromhex(repeated[2]) * int(repeated[1])
        elif header := re.fullmatch(r"([0-9a-f]{4}):(\d+),(\d+),(\d+),(\d+)", word):
            packet += b"ID" + bytes.fromhex(header[1]) + struct.pack(">4H", *map(int, header.groups()[1:]))
        elif word == ".":
            packet += b"\0"
        elif word.endswith("."):
            packet += b"".join(bytes([len(label)]) + label.encode() for label in word.split("."))
        elif re.fullmatch(r"([0-9a-f]{2})+", word):
            packet += bytes.fromhex(word)
        else:
            packet += struct.pack(">H", CLASSES.get(word) or TYPES.get(word) or int(word.removeprefix("TYPE")))
    return packet


def send_all(source, seconds):
    """Again and again for as long. Gives what was wrong, each packet named once for a transport."""
    return asyncio.run(send_for(source, seconds))


async def send_for(source, seconds):
    loop, packets = asyncio.get_running_loop(), read_all()
    end, found = loop.time() + seconds, {"answered_responses": set(), "too_long": set(), "responses": 0, "times": 0}
    while loop.time() < end or not found["times"]:
        await asyncio.gather(*(send_over(transport, packets, source, found) for transport in ("udp", "tcp")))
        found["times"] += 1
    return found | {"packets": len(packets), **{key: sorted(found[key]) for key in ("answered_responses", "too_long")}}


async def send_over(transport, packets, source, found):
    turn = asyncio.Semaphore(AT_A_TIME[transport])

    async def send(number, packet):
        async with turn:
            try:
                response = await asyncio.wait_for(clients.EXCHANGE[transport](asyncio.get_running_loop(), source, packet), PATIENCE)
            except (OSError, EOFError, TimeoutError, asyncio.TimeoutError):
                return
        found["responses"] += 1
        if len(packet) > 2 and packet[2] & 0x80:
            found["answered_responses"].add((transport, packet[:80].hex()))
        elif excess := octets_too_many(packet, response):
            found["too_long"].add((transport, packet[:80].hex(), excess))

    await asyncio.gather(*(send(number, packet) for number, (packet, transports) in enumerate(packets) if transport in transports))


def octets_too_many(query, response):
    """Of an error that is longer than its query, and with an OPT than that and its room."""
    opt = opt_of(response)
    rcode = response[3] & 15 | (opt[0] << 4 if opt else 0)
    if rcode in (NOERROR, NXDOMAIN):
        return 0
    return max(0, len(response) - len(query) - (ROOM_OF_OPT if opt else 0))


def opt_of(response):
    """Its TTL: extended RCODE, version, flags. None: there is none, or nobody could find it."""
    _, _, questions, *records = struct.unpack(">6H", response[:12])
    at = 12
    try:
        for _ in range(questions):
            at = after_name(response, at) + 4
        for _ in range(sum(records)):
            at = after_name(response, at)
            kind, _, ttl, length = struct.unpack(">HH4sH", response[at:at + 10])
            if kind == OPT:
                return ttl
            at += 10 + length
    except (IndexError, struct.error):
        pass
    return None


def after_name(response, at):
    while response[at] and response[at] < 192:
        at += 1 + response[at]
    return at + (2 if response[at] else 1)
