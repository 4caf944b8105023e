@ SOA ns1 hostmaster 1 7200 30m 3d 900
  NS ns1
  NS ns2.example.net.
ns1 A 192.0.2.53
www 300/60 DYNA geoip!www
    TXT "static beside it"
mail 60 DYNA geoip!mail    ; written by hand
cdn  DYNC geoip!cdn
pair DYNA multifo!pair
many DYNA weighted!many
two  DYNA simplefo!two
mixed DYNA geoip!mixed
gone DYNA geoip!gone
wrong A 192.0.2.530
us   DYNA geoip!www/us
order DYNA geoip!order
