"""Runs an export on real clients: python tests/clients/run.py [--work DIR] [--run RUN] [CLIENT …]

Without RUN, a small network is trained on two photographs of scikit-learn, cut up, some of them
turned by EXIF. What a client needs is installed into DIR; what has to come from the system
(Chromium, CMake, Java, qemu, npm) is asked for by name if it is missing. `make clients` calls it.
"""

import argparse
import sys
from pathlib import Path

import clients
import prepare


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".clients"), metavar="DIR")
    parser.add_argument("--run", type=Path, help="a run folder, instead of the small network")
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=", ".join(clients.CLIENTS))
    options = parser.parse_args()
    if unknown := set(options.clients) - set(clients.CLIENTS):
        parser.error(f"no client {unknown.pop()}; there are {', '.join(clients.CLIENTS)}")
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    export = prepare.export(work, options.run)
    failed = []
    for name in options.clients or clients.CLIENTS:
        print(f"== {name}", flush=True)
        try:
            for line in clients.CLIENTS[name](export, work):
                print(f"   {line}", flush=True)
        except clients.Missing as missing:
            print(f"   skipped: {missing}")
        except (AssertionError, RuntimeError) as error:
            failed.append(name)
            print(f"   FAILED: {error}")
    print(f"failed: {', '.join(failed)}" if failed else "no client failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
