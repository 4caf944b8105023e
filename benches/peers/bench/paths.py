"""Where things are. All that the bench makes is in data/, which git ignores."""

import os
import pathlib

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
DATA = HERE / "data"
DOWNLOADS = DATA / "downloads"
BIN = DATA / "bin"       # blast and echo
WORLD = DATA / "world"   # zones, queries, the large parts of configurations
RUN = DATA / "run"       # a folder for each server while it runs
MMDB = pathlib.Path(os.environ.get("MMDB_DIR") or DATA / "mmdb").resolve()
CITY = MMDB / "city.mmdb"
COUNTRY = MMDB / "country.mmdb"
CENTROIDS = MMDB / "centroids.json"


class Trouble(Exception):
    """Something that the one who runs this can put right; its text says how."""
