@ SOA ns1 hostmaster 1 7200 30m 3d 900
  NS ns1
  NS ns2.example.net.
  MX 10 mail
  TXT "v=spf1 -all" "and more"
ns1 A 192.0.2.53
www 300/60 DYNA geoip!www
    TXT "static beside it"
mail 60 DYNA geoip!mail    ; written by hand
cdn  DYNC geoip!cdn
pair DYNA multifo!pair
even DYNA weighted!even
two  DYNA simplefo!two
meta 90 DYNA metafo!meta
fixed DYNA static!fixed
mixed DYNC geoip!mixed
city DYNA geoip!city
unsaid DYNA geoip!unsaid
us   DYNA geoip!www/us
*.w  DYNA geoip!www
*.s  A 192.0.2.54
a.b.c AAAA 2001:db8::9
alias CNAME www
out CNAME www.example.net.
_sip._tcp SRV 10 20 5060 mail
num NAPTR 10 20 "u" "E2U+sip" "!^.*$!sip:info@example.com!" .
sec CAA 0 issue "ca.example.net"
typ TYPE65280 \# 4 0A000001
sub NS ns.sub
ns.sub A 192.0.2.55
$ORIGIN o.example.com.
here 10m A 192.0.2.56
