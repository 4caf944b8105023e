#!/usr/bin/env bash
# The tools that operators have against a running server, over TLS, QUIC and HTTPS.
#
#   apt-get install knot-dnsutils curl openssl
#   cargo build && tests/interop/encrypted.sh [path of meridian]
#
# `expect` and `refuse` are those of `run` beside this. A tool that is not installed, or was built without a transport, is told and
# passed over, unless MERIDIAN_INTEROP_ALL is set: then it is a failure.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
meridian=$(realpath "${1:-${CARGO_TARGET_DIR:-$root/target}/debug/meridian}")
home=$(mktemp -d)
failed=0
passed=0

stop() {
  [ -z "${server:-}" ] || { kill "$server" && wait "$server"; } 2>/dev/null
  rm -rf "$home"
}
trap stop EXIT

pass_over() {
  echo "== $1: passed over"
  [ -z "${MERIDIAN_INTEROP_ALL:-}" ] || failed=$((failed + 1))
}

command -v openssl >/dev/null || { pass_over "openssl is not installed, and makes the certificate"; exit "$failed"; }
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$home/k.pem" -out "$home/c.pem" -days 2 \
  -subj /CN=ns1.example.com -addext 'subjectAltName=DNS:ns1.example.com,IP:127.0.0.1' 2>/dev/null
cp -r "$root/zones" "$root/geodb" "$home"
cat >"$home/meridian.yaml" <<'YAML'
listen:
  - 127.0.0.1:0
  - { address: "127.0.0.1:0", tls: { certificate: c.pem, key: k.pem } }
  - { address: "127.0.0.1:0", quic: { certificate: c.pem, key: k.pem } }
  - { address: "127.0.0.1:0", https: { certificate: c.pem, key: k.pem } }
answers: { nsid: interop-1 }
YAML
(cd "$home" && exec env NO_COLOR=1 "$meridian" serve --config meridian.yaml) >"$home/log" 2>&1 &
server=$!
for _ in $(seq 300); do
  grep -q 'ready after' "$home/log" && break
  kill -0 "$server" 2>/dev/null || { cat "$home/log"; exit 1; }
  sleep 0.1
done
port_of() { sed -n "s/.*DNS over $1 at .*:\([0-9]*\) with .*/\1/p" "$home/log"; }
tls=$(port_of TLS) quic=$(port_of QUIC) https=$(port_of HTTPS)
[ -n "$tls" ] && [ -n "$quic" ] && [ -n "$https" ] || { cat "$home/log"; exit 1; }

# expect TEXT COMMAND...
expect() {
  local text=$1 output
  shift
  output=$(timeout 60 "$@" 2>&1 | tr -d '\0')
  if grep -Eaq -- "$text" <<<"$output"; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    printf '\nFAILED: %s\nwanted: %s\n%s\n' "$*" "$text" "$output"
  fi
}

# refuse TEXT COMMAND...
refuse() {
  local text=$1 output
  shift
  output=$(timeout 60 "$@" 2>&1 | tr -d '\0')
  if grep -Eaq -- "$text" <<<"$output"; then
    failed=$((failed + 1))
    printf '\nFAILED: %s\nnot wanted: %s\n%s\n' "$*" "$text" "$output"
  else passed=$((passed + 1)); fi
}

if ! command -v kdig >/dev/null; then pass_over "kdig is not installed"; else
  echo "== kdig"
  help=$(kdig -h)
  k=(kdig @127.0.0.1 +retry=0 +time=5 "+tls-ca=$home/c.pem" +tls-hostname=ns1.example.com)
  for transport in "+tls $tls" "+https $https" "+https-get $https" "+quic $quic"; do
    read -r option port <<<"$transport"
    [ "$option" != +https-get ] || option='+https +https-get'
    if ! grep -Fq -- "+[no]${option##*+}" <<<"$help"; then
      pass_over "this kdig has no $option"
      continue
    fi
    # shellcheck disable=SC2206 # two options
    t=("${k[@]}" -p "$port" $option)
    expect 'status: NOERROR' "${t[@]}" www.example.com
    expect 'TLS1\.3' "${t[@]}" www.example.com
    # kdig pads its queries by itself, and is answered in kind.
    expect 'Received 468 B' "${t[@]}" www.example.com
    expect 'interop-1' "${t[@]}" www.example.com +nsid
    expect '192\.0\.2\.10' "${t[@]}" www.example.com +subnet=1.1.1.0/24 +short
    expect 'status: NXDOMAIN' "${t[@]}" nowhere.example.com
    refuse ';; (WARNING|ERROR)|malformed' "${t[@]}" example.com SOA
  done
  # Several queries over one connection.
  expect 'SOA' "${k[@]}" -p "$tls" +tls +keepopen www.example.com A example.com SOA
fi

if ! command -v curl >/dev/null; then pass_over "curl is not installed"; else
  echo "== curl"
  url="https://127.0.0.1:$https/dns-query"
  c=(curl -sS -D - --cacert "$home/c.pem" -m 10)
  query='dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB'
  printf '\0\0\1\0\0\1\0\0\0\0\0\0\3www\7example\3com\0\0\1\0\1' >"$home/query"
  post=(-H 'content-type: application/dns-message' --data-binary "@$home/query")
  for version in --http1.1 --http2; do
    expect '^HTTP/[.0-9]+ 200' "${c[@]}" "$version" "$url?$query"
    expect '^content-type: application/dns-message' "${c[@]}" "$version" "${post[@]}" "$url"
    expect '^cache-control: private, max-age=30' "${c[@]}" "$version" "${post[@]}" "$url"
    expect '^HTTP/[.0-9]+ 404' "${c[@]}" "$version" "https://127.0.0.1:$https/?$query"
    expect '^HTTP/[.0-9]+ 405' "${c[@]}" "$version" -X DELETE "$url"
    expect '^HTTP/[.0-9]+ 415' "${c[@]}" "$version" --data-binary x "$url"
    expect '^HTTP/[.0-9]+ 400' "${c[@]}" "$version" "$url?dns=%"
  done
  # curl itself as a client of it: what it resolves is the sample's address, where nobody listens.
  expect '192\.0\.2\.10' curl -v -m 1 --doh-insecure --doh-url "$url" http://www.example.com/
fi

if command -v openssl >/dev/null; then
  echo "== openssl"
  expect 'ALPN protocol: dot' openssl s_client -connect "127.0.0.1:$tls" -alpn dot </dev/null
  expect 'TLSv1\.2' openssl s_client -connect "127.0.0.1:$tls" -tls1_2 -brief </dev/null
  expect 'alert|error' openssl s_client -connect "127.0.0.1:$tls" -tls1_1 -brief </dev/null
  expect 'no application protocol' openssl s_client -connect "127.0.0.1:$tls" -alpn h2 -brief </dev/null
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
