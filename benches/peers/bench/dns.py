"""A small DNS client: one question over UDP, and what the answer says."""

import dataclasses
import ipaddress
import random
import socket
import struct

A, AAAA, OPT = 1, 28, 41
CLIENT_SUBNET = 8


@dataclasses.dataclass
class Answer:
    rcode: int
    addresses: list
    scope: int | None


def ask(port, name, kind=A, subnet=None, source=None, timeout=0.5):
    """None: no answer in time, or none to this question."""
    number = random.getrandbits(16)
    option = b""
    if subnet:
        network = ipaddress.ip_network(subnet)
        address = network.network_address.packed[:(network.prefixlen + 7) // 8]
        option = struct.pack(">HHHBB", CLIENT_SUBNET, 4 + len(address), 1 if network.version == 4 else 2, network.prefixlen, 0) + address
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + struct.pack(">BHH", 0, kind, 1)
    query = struct.pack(">6H", number, 0, 1, 0, 0, 1) + question + struct.pack(">BHHIH", 0, OPT, 1232, 0, len(option)) + option
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        try:
            client.settimeout(timeout)
            if source:
                client.bind((source, 0))
            client.connect(("127.0.0.1", port))
            client.send(query)
            response = client.recv(65535)
        except OSError:
            return None
    if response[:2] != query[:2] or len(response) < 12 or not response[2] & 0x80:
        return None
    return read(response)


def read(response):
    _, flags, questions, answers, authority, additional = struct.unpack(">6H", response[:12])
    at, answer = 12, Answer(flags & 15, [], None)
    for _ in range(questions):
        at = after_name(response, at) + 4
    for index in range(answers + authority + additional):
        at = after_name(response, at)
        kind, _, _, length = struct.unpack(">HHIH", response[at:at + 10])
        data, at = response[at + 10:at + 10 + length], at + 10 + length
        if index < answers and kind in (A, AAAA):
            answer.addresses.append(str(ipaddress.ip_address(data)))
        elif kind == OPT:
            while len(data) >= 4:
                code, size = struct.unpack(">HH", data[:4])
                if code == CLIENT_SUBNET:
                    answer.scope = data[7]
                data = data[4 + size:]
    return answer


def after_name(response, at):
    while response[at] and response[at] < 192:
        at += 1 + response[at]
    return at + (2 if response[at] else 1)
