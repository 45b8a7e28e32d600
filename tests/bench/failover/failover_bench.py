#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From the death of a node to the start of what it ran, elsewhere: Godwit beside Pacemaker.

    GW_BUILD=build/release tests/bench/failover/failover_bench.py [ROUNDS]

Three nodes in namespaces (tests/lib/gwnet.py), the same corosync.conf but for its names: knet, one link, token 1000 ms,
token_coefficient 0. A node dies by SIGKILL to everything in its namespace. No fence device on either side: Pacemaker
with stonith-enabled=false takes silence for death at once; Godwit takes it for death when the lease is over (L = 10 s).
So the totals are not of equal work: compare what comes after detection and proof, which is printed by itself.

One figure per line: who, what, median, lowest and highest of ROUNDS (default 5), in ms. Times are those of the
machine's monotonic clock, for Godwit's entries those of the log of the node that leads.
"""
import datetime
import os
import pathlib
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/node"))
sys.path.insert(0, str(ROOT / "tests/lib"))
import gwnet  # noqa: E402

WAIT_S = 120.0
TOKEN_MS = 1000


def say(who, what, values):
    print(f"{who:<10} {what:<44} {statistics.median(values):8.0f} ms  ({min(values):.0f} to {max(values):.0f}, "
          f"{len(values)} rounds)", flush=True)


def godwit(rounds):
    """Parts of each failover."""
    import cluster_service_test as service
    import ha_service_test as ha

    class Bench(ha.Case):
        LINKS = 1

        def runTest(self):
            """Not one: it measures."""

    def entry(log, what, after):
        """Monotonic time at which the log of a node says it first, after a time."""
        for at, line in re.findall(r"^(\S+)Z \S+ \w+ +(.*)$", log, re.M):
            stamp = datetime.datetime.fromisoformat(at).replace(tzinfo=datetime.timezone.utc).timestamp() + offset
            if stamp >= after and re.search(what, line):
                return stamp
        raise gwnet.Error(f"no '{what}' in the log")

    offset = time.monotonic() - time.time()
    parts = {"detect": [], "proof": [], "decide": [], "spawn": [], "worker": [], "own": [], "total": []}
    bench = Bench()
    bench.setUp()
    try:
        n1 = bench.nodes[0]
        for number in range(rounds):
            name = f"web{number}"  # each its own: one that fails over again and again has to wait
            bench.define(name, "--preferred", "n3,n2" if number % 2 == 0 else "n2,n3")
            n1.godwit("vm", "start", name)
            node = bench.by_name(bench.online(name, n1)["node"])
            bench.wait(lambda name=name: bench.runs(name), "it runs")
            time.sleep(1.5)
            died = time.monotonic()
            node.signal(signal.SIGKILL)
            bench.net.node(node.number).kill()
            bench.wait(lambda name=name: len(bench.runs(name)) > 1, "it runs elsewhere")
            started = bench.runs(name)[-1][0] / 1e9
            log = n1.log()
            view = entry(log, r"member: view committed", died)
            proof = entry(log, r'committed what="fenced', died)
            decided = entry(log, rf'committed what="start +{name} ', died)
            parts["detect"].append((view - died) * 1e3)
            parts["proof"].append((proof - view) * 1e3)
            parts["decide"].append((decided - proof) * 1e3)
            owner = bench.by_name(bench.online(name, n1)["node"])
            spawned = entry(owner.log(), rf'vm.state vm={name} text="off -> starting"', died)
            parts["spawn"].append((spawned - decided) * 1e3)
            parts["worker"].append((started - spawned) * 1e3)
            parts["own"].append((started - proof) * 1e3)
            parts["total"].append((started - died) * 1e3)
            node.process.wait(service.WAIT_S)
            node.start()
            for one in bench.nodes:
                one.active(3)
            bench.wait(lambda: [n.get("ha", {}).get("state") for n in n1.ask("node", "list")["nodes"]] == ["up"] * 3, "all up")
            n1.godwit("vm", "stop", name)
    finally:
        bench.doCleanups()
    say("godwit", "detect: death to view committed", parts["detect"])
    say("godwit", "fence: view to proof by the lease committed", parts["proof"])
    say("godwit", "token: proof to START committed", parts["decide"])
    say("godwit", "start: START to the worker's process", parts["spawn"])
    say("godwit", "worker: its process to its first mark", parts["worker"])
    say("godwit", "beyond detection and fence", parts["own"])
    say("godwit", "total", parts["total"])


AGENT = """#!/bin/sh
# Does nothing but say when it is asked to start.
state=/run/gwbench-$OCF_RESOURCE_INSTANCE
case "$1" in
meta-data)
	cat <<'END'
<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="GwBench" version="1.0"><version>1.0</version>
<longdesc lang="en">bench</longdesc><shortdesc lang="en">bench</shortdesc><parameters></parameters>
<actions><action name="start" timeout="20s"/><action name="stop" timeout="20s"/>
<action name="monitor" timeout="20s" interval="10s"/><action name="meta-data" timeout="5s"/></actions>
</resource-agent>
END
	;;
start) touch "$state"; echo "$(cut -d' ' -f1 /proc/uptime) $(date +%s.%N) $(hostname)" >>MARKS ;;
stop) rm -f "$state" ;;
monitor) [ -e "$state" ] || exit 7 ;;
*) exit 3 ;;
esac
exit 0
"""


def pacemaker_start(node, agents):
    """pacemakerd in a node, with folders of its own."""
    for name in ("cib", "pengine", "cores", "blackbox"):
        (node.dir / "pcmk" / name).mkdir(parents=True, exist_ok=True)
    (node.dir / "pcmklog").mkdir(exist_ok=True)
    script = ("chown -R hacluster:haclient $1/pcmk $1/pcmklog; mount --bind $1/pcmk /var/lib/pacemaker;"
              "mount --bind $1/pcmklog /var/log/pacemaker; mkdir -p /run/crm /run/resource-agents;"
              "chown hacluster:haclient /run/crm;"
              "mkdir -p /run/ocf; cp -a /usr/lib/ocf/resource.d/. /run/ocf/; cp $2/GwBench /run/ocf/pacemaker/GwBench;"
              "mount --bind /run/ocf /usr/lib/ocf/resource.d;"
              "exec env PCMK_logfile=/var/log/pacemaker/pacemaker.log pacemakerd -f")
    node.spawn("/bin/sh", "-c", script, "sh", str(node.dir), str(agents), log="pacemaker.out")


def corosync_time(line):
    """When a line of corosync's log tells of a new ring; None if it does not."""
    if "A new membership" not in line:
        return None
    stamp = re.match(r"\S+ +\d+ [\d:.]+", line).group(0)
    return datetime.datetime.strptime(f"{datetime.date.today().year} {stamp}", "%Y %b %d %H:%M:%S.%f").timestamp()


def pacemaker(rounds):
    work = pathlib.Path(tempfile.mkdtemp(prefix="gwfailover"))
    marks = work / "marks"
    marks.touch(mode=0o666)
    marks.chmod(0o666)
    agent = work / "GwBench"
    agent.write_text(AGENT.replace("MARKS", str(marks)), encoding="utf-8")
    agent.chmod(0o755)
    work.chmod(0o755)
    detect, own, total = [], [], []
    try:
        with gwnet.Cluster(nodes=3, links=1, token=TOKEN_MS, crypto=True) as c:
            c.start()
            for node in c.nodes():
                pacemaker_start(node, work)
            gwnet.wait_for(lambda: c.node(1).run("crm_mon", "-1", check=False).stdout.count("Online: [ n1 n2 n3 ]"),
                           WAIT_S, "pacemaker is up")
            for name, value in (("stonith-enabled", "false"), ("no-quorum-policy", "stop")):
                c.node(1).run("crm_attribute", "-n", name, "-v", value)
            # It stays where it is when a node comes back.
            c.node(1).run("crm_attribute", "-t", "rsc_defaults", "-n", "resource-stickiness", "-v", "1000")
            c.node(1).run("cibadmin", "-C", "-o", "resources", "-X",
                          '<primitive id="vm1" class="ocf" provider="pacemaker" type="GwBench"><operations>'
                          '<op id="vm1-m" name="monitor" interval="10s" timeout="20s"/></operations></primitive>')
            for _ in range(rounds):
                def seen():
                    return [line.split() for line in marks.read_text(encoding="ascii").splitlines()]
                gwnet.wait_for(seen, WAIT_S, "vm1 runs")
                time.sleep(3)  # what the return of a node leads to has happened
                count = len(seen())
                victim = int(seen()[-1][2][1:])
                left = next(n for n in c.nodes() if n.number != victim)
                died = time.time()
                c.node(victim).kill()
                gwnet.wait_for(lambda: len(seen()) > count, WAIT_S, "vm1 runs elsewhere")
                started = float(seen()[-1][1])
                at = next(t for t in map(corosync_time, left.log().splitlines()) if t is not None and t > died)
                detect.append((at - died) * 1e3)
                own.append((started - at) * 1e3)
                total.append((started - died) * 1e3)
                c.node(victim).start()
                c.wait_members([1, 2, 3], deadline_s=60)
                pacemaker_start(c.node(victim), work)
                gwnet.wait_for(lambda: left.run("crm_mon", "-1", check=False).stdout.count("Online: [ n1 n2 n3 ]"),
                               WAIT_S, "pacemaker is up again")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say("pacemaker", "detect: death to corosync's new ring", detect)
    say("pacemaker", "beyond detection, to the agent's start", own)
    say("pacemaker", "total", total)


if __name__ == "__main__":
    reason = gwnet.why_not()
    if reason:
        sys.exit(reason)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"# load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", flush=True)
    godwit(count)
    if shutil.which("pacemakerd", path=os.environ["PATH"] + ":/usr/sbin"):
        pacemaker(count)
    else:
        print("pacemaker is not installed: apt-get install --no-install-recommends pacemaker pacemaker-cli-utils "
              "resource-agents")
    print(f"# load {os.getloadavg()[0]:.1f}")
