"""What dnspython makes of a server at 127.0.0.1: python3 with_dnspython.py PORT. It raises when an answer is malformed."""

import sys

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.resolver
import dns.xfr
import dns.zone

AT, PORT = "127.0.0.1", int(sys.argv[1])


def ask(name, rtype="A", over=dns.query.udp, **options):
    query = dns.message.make_query(name, rtype, **options)
    response = over(query, AT, port=PORT, timeout=5)
    assert query.is_response(response), response
    return response


plain = ask("www.example.com")
assert plain.rcode() == dns.rcode.NOERROR and plain.flags & dns.flags.AA and plain.edns == -1
assert ask("www.example.com", over=dns.query.tcp).answer == plain.answer

subnet = dns.edns.ECSOption("1.1.1.0", 24)
response = ask("www.example.com", options=[subnet], use_edns=0)
(echoed,) = [option for option in response.options if option.otype == dns.edns.ECS]
assert echoed.address == "1.1.1.0" and echoed.srclen == 24 and echoed.scopelen > 0, echoed
assert response.answer[0][0].to_text() == "192.0.2.10", response

nsid = ask("www.example.com", options=[dns.edns.GenericOption(dns.edns.NSID, b"")], use_edns=0)
assert any(option.otype == dns.edns.NSID for option in nsid.options), nsid
cookie = ask("www.example.com", options=[dns.edns.GenericOption(10, b"12345678")], use_edns=0)
assert any(option.otype == 10 for option in cookie.options), cookie
assert ask("www.example.com", want_dnssec=True).ednsflags & dns.flags.DO
assert ask("www.example.com", use_edns=0, pad=128).rcode() == dns.rcode.NOERROR

assert ask("nowhere.example.com").rcode() == dns.rcode.NXDOMAIN
refused = ask("example.net", use_edns=0)
assert refused.rcode() == dns.rcode.REFUSED and any(option.otype == dns.edns.EDE for option in refused.options)
assert ask("host.partner.example.com").authority and not ask("host.partner.example.com").answer
assert ask("x.old.example.com").answer

resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = [AT], PORT
assert resolver.resolve("www.example.com", "AAAA").rrset
assert resolver.resolve("blog.example.com").canonical_name.to_text() == "www.example.com."
try:
    resolver.resolve("nowhere.example.com")
    raise SystemExit("it exists")
except dns.resolver.NXDOMAIN:
    pass

try:
    dns.zone.from_xfr(dns.query.xfr(AT, "example.com", port=PORT, timeout=5))
    raise SystemExit("it is given to anybody")
except (dns.xfr.TransferError, dns.query.TransferError):
    pass

print("all is well")
