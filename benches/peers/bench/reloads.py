"""Changes and reloads one after the other, while something else is measured."""

import subprocess
import threading
import time


class Reloads:
    """`change()`, then `command`, again and again for as long as it is entered; `seconds` has how long each command took."""

    def __init__(self, change, command, wanted=True):
        self.change, self.command, self.wanted, self.seconds, self.over = change, command, wanted, [], threading.Event()
        self.thread = threading.Thread(target=self.reload)

    def __enter__(self):
        if self.wanted:
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        if self.wanted:
            self.thread.join()

    def reload(self):
        while not self.over.is_set():
            self.change()
            begin = time.monotonic()
            done = subprocess.run(self.command, capture_output=True)
            if done.returncode:
                print("meridian reload:", done.stderr.decode().strip(), flush=True)
                return
            self.seconds.append(time.monotonic() - begin)
