#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Several labs at once, labs cut short, and that nothing is left of any."""
import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwlab_client  # noqa: E402
from gwlab_client import LAB, Lab, run_lab, wait_for  # noqa: E402

SMALL = ("--nodes", "1", "--memory", "384M", "--lun", "16M")


def traces(lab):
    """What a lab could leave on the machine; [] is the only good answer."""
    found, name = [], lab.name
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"/{name}/".encode() in argv and b"qemu" in argv:
                found.append(f"process {entry.name}")
    spaces = pathlib.Path("/run/netns")
    found += [f"namespace {p.name}" for p in spaces.glob(f"*{name}*")] if spaces.exists() else []
    found += [f"interface {n}" for n in os.listdir("/sys/class/net") if n.startswith(("n1-", "br-cluster"))]
    mounts = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    found += [f"mount {line}" for line in mounts.splitlines() if f"/{name}/" in line or f"gwlab-{name}" in line]
    found += [f"file {p}" for p in gwlab_client.BASE.glob(f"*{name}*")]
    return found


class Labs(unittest.TestCase):
    """Each test brings its own."""

    def test_two_labs_do_not_see_each_other(self):
        with Lab("a", *SMALL) as a, Lab("b", *SMALL) as b:
            self.assertTrue({a.name, b.name} <= {
                lab["name"] for lab in gwlab_client.json.loads(run_lab("status", "--json").stdout)["labs"]})
            a.sh("n1", "echo from a > /root/who; printf %-512s a | dd of=/dev/disk/by-lun/lun0 oflag=direct "
                 "conv=notrunc status=none")
            self.assertEqual(b.sh("n1", "ls /root"), "")
            self.assertEqual(b.sh("n1", "dd if=/dev/disk/by-lun/lun0 count=1 status=none | tr -d '\\0'"), "")
            # The same address in both, and each answers for itself.
            a.sh("n1", "ip address add 10.77.1.200/24 dev cluster")
            self.assertNotEqual(b.exec("n1", "ping -c 1 -W 1 10.77.1.200").returncode, 0)
            a.do("cut", "n1", "storage")
            self.assertEqual(b.sh("n1", "cat /sys/class/net/storage/carrier"), "1\n")
            a.down()
            self.assertEqual(b.sh("n1", "hostname"), "n1\n")
            self.assertEqual(traces(a), [])
        self.assertEqual(traces(b), [])

    def test_a_second_up_of_the_same_name_is_refused_and_harms_nothing(self):
        with Lab("c", *SMALL) as lab:
            done = lab.do("up", *SMALL, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"lab down --name {lab.name}".encode(), done.stderr)
            self.assertEqual(lab.state("n1"), "running")
            self.assertEqual(lab.sh("n1", "hostname"), "n1\n")

    def test_down_cleans_up_after_an_up_that_was_killed_anywhere(self):
        lab = Lab("d")
        self.addCleanup(lab.down)
        steps = (lambda: (lab.directory() / "lab.json").exists(),
                 lambda: (gwlab_client.NAMESPACES / f"gwlab-{lab.name}").exists(),
                 lambda: (lab.directory() / "n1/qmp").exists(),
                 lambda: (lab.directory() / "n1/console.log").exists())
        for step in steps:
            with subprocess.Popen([LAB, "up", "--name", lab.name, "-q", *SMALL], stderr=subprocess.DEVNULL,
                                  start_new_session=True) as process:
                wait_for("the step", lambda step=step: step() or process.poll() is not None, 30, 0.001)
                os.killpg(process.pid, signal.SIGKILL)
            self.assertTrue(lab.directory().exists())
            lab.do("down")
            self.assertEqual(traces(lab), [])

    def test_a_node_that_does_not_come_up_is_shown(self):
        # A build tree whose agent is no program: the kernel finds nothing to run.
        build = pathlib.Path(os.environ.get("GW_BUILD", gwlab_client.SOURCE / "build/release"))
        fake = build / "lab-broken-build"
        (fake / "bin").mkdir(parents=True, exist_ok=True)
        (fake / "bin/lab-agent").write_text("not a program\n", encoding="utf-8")
        self.addCleanup(subprocess.run, ["rm", "-r", str(fake)], check=True)
        lab = Lab("e")
        self.addCleanup(lab.down)
        done = subprocess.run([LAB, "up", "--name", lab.name, *SMALL, "--timeout", "15"], capture_output=True,
                              env={**os.environ, "GW_BUILD": str(fake)}, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"n1 did not come up", done.stderr)
        self.assertIn(b"Kernel panic", done.stderr)


if __name__ == "__main__":
    gwlab_client.main()
