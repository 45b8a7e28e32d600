#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of the cluster database on three real corosyncs in namespaces: committed writes beside bare CPG messages.

    tests/bench/cluster_db_bench.py build/release/tests/bench/cluster_db_bench [DIRECTORY]

Measured once from the leader and once from another member; the files are below DIRECTORY (default: /var/tmp), all three
on the same disk. Encryption is on, as in a generated corosync.conf.
"""
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402


def run(program, where, measuring):
    """One run: figures of the member on node `measuring`."""
    with gwnet.Cluster(nodes=3, crypto=True) as cluster, tempfile.TemporaryDirectory(dir=where) as state:
        cluster.start()

        def argv(n, what):
            return [program, f"{state}/n{n}.db", str(n), "3", what]

        serving = [cluster.node(n).popen(*argv(n, "serve"), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
                   for n in (1, 2, 3) if n != measuring]
        done = cluster.node(measuring).run(*argv(measuring, "measure"), timeout_s=600)
        print(f"# from node {measuring}\n{done.stdout}", end="", flush=True)
        for proc in serving:
            proc.stdin.close()
            proc.wait(30)


if __name__ == "__main__":
    reason = gwnet.why_not()
    if reason:
        sys.exit(reason)
    for number in (1, 2):
        run(str(pathlib.Path(sys.argv[1]).resolve()), sys.argv[2] if len(sys.argv) > 2 else "/var/tmp", number)
