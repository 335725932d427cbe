#!/usr/bin/env python3
"""Reads all contacts of a simulated portal with other people's clients; see README.md."""

import argparse
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings

SELECT = ["PHONE", "EMAIL", "WEB", "IM", "LINK", "*", "UF_*"]

# What the portal allows and how long it takes, as actions of the simulator.
PORTALS = {
    "limits off": [],
    "40 ms per request, 15 ms per command, bucket 50 and 2/s": [
        {"action": "latency", "millis": 40},
        {"action": "cost", "method": "*", "cost": {"seconds": 0.015, "real": True}},
        {"action": "bucket", "limit": {"threshold": 50.0, "rate": 2.0, "refused_count": True}},
    ],
}

# Not more: the simulator counts by looking at every contact, so on a larger portal a client that
# has them counted would mostly wait for that.
CONTACTS = 20_000


def read_with_fast_bitrix24(webhook, limited):
    from fast_bitrix24 import Bitrix

    # It warns that reading everything is much; that is what is measured.
    warnings.simplefilter("ignore", UserWarning)
    lifted = {
        "respect_velocity_policy": False,
        "request_pool_size": 1_000_000,
        "requests_per_second": 10_000.0,
    }
    client = Bitrix(webhook, verbose=False, **({} if limited else lifted))
    return client.get_all("crm.contact.list", params={"select": SELECT})


def read_with_b24pysdk(webhook, limited):
    from b24pysdk import BitrixWebhook, Client
    from b24pysdk.api.callers import call_method

    # A module of the same name hides behind the function.
    caller = sys.modules[call_method.__module__]._MethodCaller
    # It knows https only; the simulator is on loopback and speaks plain http.
    caller._base_url = property(lambda self: f"http://{self._domain}/rest")
    domain, token = re.fullmatch(r"http://([^/]+)/rest/(.+)/", webhook).groups()
    client = Client(BitrixWebhook(domain=domain, webhook_token=token))
    # A generator that asks for more as it is consumed.
    return client.crm.contact.list(select=SELECT).as_list_fast().result


CLIENTS = {
    "fast_bitrix24": read_with_fast_bitrix24,
    "b24pysdk": read_with_b24pysdk,
}


class Portal:
    """A simulated portal in a process of its own."""

    def __init__(self, binary, contacts):
        self.output = tempfile.TemporaryFile("w+")
        command = [binary, "simulate", "--port", "0", "--leads", "0"]
        command += ["--contacts", str(contacts), "--bucket", "0", "--operating-limit", "0"]
        self.process = subprocess.Popen(command, stdout=self.output, stderr=subprocess.STDOUT)
        addresses = {}
        while not {"webhook", "control"} <= addresses.keys():
            time.sleep(0.02)
            self.output.seek(0)
            printed = self.output.read()
            if self.process.poll() is not None:
                sys.exit(f"the simulator ended with {self.process.returncode}:\n{printed}")
            addresses = dict(re.findall(r"^(webhook|control) +(http\S+)$", printed, re.M))
        self.webhook, self.control = addresses["webhook"], addresses["control"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.output.close()

    def warm_up(self):
        """Reads everything once, so that the portal has its rows at hand."""
        select = "&".join(f"select[]={field}" for field in SELECT)
        after = 0
        while True:
            query = f"order[ID]=ASC&filter[%3EID]={after}&{select}&start=-1"
            with urllib.request.urlopen(f"{self.webhook}crm.contact.list?{query}") as answer:
                rows = json.load(answer)["result"]
            if not rows:
                break
            after = rows[-1]["ID"]
        self.post("stats/reset", b"")

    def post(self, path, body):
        urllib.request.urlopen(f"{self.control}/{path}", data=body).close()

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stats(self):
        with urllib.request.urlopen(f"{self.control}/stats") as answer:
            return json.load(answer)


def read(client, webhook, limited):
    """Runs in a process of its own, so that its time and memory are the client's alone."""
    started = time.monotonic()
    rows, with_phone, ids, error = 0, 0, set(), None
    try:
        for row in CLIENTS[client](webhook, limited):
            rows += 1
            with_phone += bool(row.get("PHONE"))
            ids.add(int(row["ID"]))
    except Exception as exception:  # Whatever it raises, the rest is lost.
        error = f"{type(exception).__name__}: {exception}"[:200]
    seconds = time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({
        "seconds": round(seconds, 3),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_megabytes": round(usage.ru_maxrss * 1024 / 1e6, 1),
        "rows": rows,
        "distinct": len(ids),
        "with_phone": with_phone,
        "error": error,
    }))


def measure(binary, client, name, scale):
    actions = PORTALS[name]
    contacts = max(100, int(CONTACTS * scale))
    with Portal(binary, contacts) as running:
        running.warm_up()
        for action in actions:
            running.post("action", json.dumps(action).encode())
        simulator_cpu = running.cpu_seconds()
        command = [sys.executable, __file__, "--read", client, "--webhook", running.webhook]
        if actions:
            command.append("--limited")
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        stats, simulator_cpu = running.stats(), running.cpu_seconds() - simulator_cpu
    return {
        "bench": "peers",
        "client": client,
        "portal": name,
        "contacts": contacts,
        **json.loads(result.stdout.splitlines()[-1]),
        "simulator_cpu_seconds": round(simulator_cpu, 2),
        "requests": stats["requests"],
        "refusals": stats["refusals"],
        "counts": stats["counts"],
        "load": os.getloadavg()[0],
    }


def row(result):
    lost = result["contacts"] - result["distinct"]
    got = f"all {result['distinct']:,}" if lost == 0 else f"**{lost:,} lost**"
    if result["error"]:
        got += f" ({result['error']})"
    return (
        f"| {result['client']} | {result['contacts']:,} contacts, {result['portal']} "
        f"| {result['seconds']:.1f} s | {result['requests']:,} ({result['counts']:,} COUNTs) "
        f"| {result['cpu_seconds']:.1f} s (simulator {result['simulator_cpu_seconds']:.1f} s) "
        f"| {result['peak_megabytes']:,.0f} MB | {got} |"
    )


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=str(target / "release" / "b24mirror"))
    parser.add_argument("--client", choices=CLIENTS, action="append")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--read", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--webhook", help=argparse.SUPPRESS)
    parser.add_argument("--limited", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read(arguments.read, arguments.webhook, arguments.limited)
        return
    results = []
    for name in PORTALS:
        for client in arguments.client or CLIENTS:
            results.append(measure(arguments.binary, client, name, arguments.scale))
            print(json.dumps(results[-1]), flush=True)
    print("\n| client | portal | time | requests | CPU | peak memory | rows |")
    print("|---|---|---|---|---|---|---|")
    for result in results:
        print(row(result))


if __name__ == "__main__":
    main()
