#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The Debian packages: installed on three nodes, used as a cluster, services restarted node by node under a VM, upgraded under
it, removed, purged. `package_test.py build` makes them, in two versions, of the release build in GW_BUILD, which nodes see.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwlab_client  # noqa: E402
from gwlab_client import wait_for  # noqa: E402
from vm_test import guest_files  # noqa: E402

NODES = ("n1", "n2", "n3")
NEWER = "99.0.0"
# What systemd would do; nodes of a lab have none. The installed programs, not those of the build tree.
START = "export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin; setsid -f godwitd --foreground >>/var/log/godwitd.log 2>&1 </dev/null"
DEBS = pathlib.Path(os.environ["GW_BUILD"]) / "package-test"
STOP = "pkill -x godwitd; while pgrep -x godwitd >/dev/null; do sleep 0.1; done"


class Packages(gwlab_client.LabCase):
    """Three nodes, and the packages in two versions."""

    options = ("--nodes", "3", "--memory", "1G", "--cpus", "1")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = guest_files()

    def everywhere(self, line, timeout=300):
        """A shell line on all nodes at once; their outputs."""
        began = [subprocess.Popen([gwlab_client.LAB, "exec", "-n", "--name", self.lab.name, "--timeout", str(timeout), node, "--", line],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for node in NODES]
        said = [process.communicate()[0].decode(errors="replace") for process in began]
        for node, process, text in zip(NODES, began, said):
            self.assertEqual(process.returncode, 0, f"{node}: {line}\n{text}\n{self.journal(node)}")
        return said

    def inside(self, node, line, timeout=180, check=True):
        """A shell line on a node, with the installed programs."""
        done = self.lab.exec(node, f"export PATH=/usr/sbin:/usr/bin:/sbin:/bin; {line}", timeout=timeout)
        if check:
            self.assertEqual(done.returncode, 0, f"{node}: {line}\n{(done.stdout + done.stderr).decode()}\n{self.journal(node)}")
        return done

    def text(self, node, line, **kwargs):
        return self.inside(node, line, **kwargs).stdout.decode(errors="replace")

    def journal(self, node):
        return self.lab.exec(node, "tail -n 60 /var/log/godwitd.log").stdout.decode(errors="replace")

    def install_newer(self, node):
        self.inside(node, f"dpkg -i --force-unsafe-io {DEBS}/newer/*.deb", timeout=300)
        self.assertIn(NEWER, self.text(node, "dpkg-query -W godwit-host"))

    def restart(self, node):
        """Its service; the VM's worker stays, the cluster has all votes again."""
        self.inside(node, f"{STOP}; {START}")
        self.answers(node)
        wait_for("three votes", lambda: self.quorum("n2") == (True, 3), 60)
        self.assertEqual(self.text("n1", "pgrep -x godwit-vm"), self.worker)

    def answers(self, node):
        wait_for(f"godwitd on {node} answers", lambda: self.inside(node, "godwit vm list", check=False).returncode == 0, 60)

    def installed(self):
        # An index of manual pages takes a minute here.
        self.everywhere(f"set -e; rm -f /var/lib/man-db/auto-update; dpkg -i --force-unsafe-io {DEBS}/first/*.deb; {START}")
        for node in NODES:
            self.answers(node)
            self.assertIn("/usr/bin/godwit\n", self.text(node, "which godwit; getent group godwit"))
            self.assertEqual(self.text(node, "readlink /proc/$(pgrep -x godwitd)/exe").strip(), "/usr/sbin/godwitd")
        self.assertIn("godwit-vm", self.text("n1", "man -P cat godwit-vm"))

    def used(self):
        """A cluster and a VM, by the installed programs."""
        nodes = " ".join(f"--node {node}=10.77.1.{i}" for i, node in enumerate(NODES, 1))
        made = json.loads(self.text("n1", f"godwit cluster create packed {nodes} --detect 4s --json"))
        for one in made["invited"]:
            self.inside(one["name"], f"godwit node add {one['name']} --addr {one['addrs'][0]} --token {one['token']}")
        wait_for("three votes", lambda: self.quorum("n2") == (True, 3), 60)
        self.inside("n1", "godwit disk create /srv/web.vhdx --size 64M")
        self.inside("n1", f"godwit vm create web --memory 128M --cpus 1 --disk /srv/web.vhdx --kernel {self.files['vmlinux']} "
                          f"--initrd {self.files['initrd']} --append 'console=ttyS0 quiet mitigations=off'")
        self.inside("n1", "godwit vm start web")
        wait_for("the guest is ready", lambda: "gwguest: ready" in self.text("n1", "godwit vm log web"), 180)
        self.worker = self.text("n1", "pgrep -x godwit-vm")

    def quorum(self, node):
        said = self.inside(node, "godwit quorum show --json", check=False)
        if said.returncode != 0:
            return None
        quorum = json.loads(said.stdout)
        return quorum["quorate"], quorum["votes"]

    def rolled(self):
        """One node after the other."""
        for node in NODES:
            self.restart(node)

    def upgraded(self):
        """Where the VM runs."""
        self.install_newer("n1")
        self.restart("n1")
        vm = json.loads(self.text("n1", "godwit vm show web --json"))
        self.assertEqual(vm["state"], "running")
        before = len(self.text("n1", "godwit vm log web"))
        with self.lab.spawn("n1", "exec /usr/bin/godwit vm console web", stdin=subprocess.PIPE) as console:
            console.stdin.write(b"info\n")
            console.stdin.flush()
            wait_for("the guest goes on", lambda: "gwguest: ok info" in self.text("n1", "godwit vm log web")[before:], 60)

    def removed(self):
        """Not under a running VM; what the services knew stays until a purge, disks always."""
        refused = self.inside("n1", "dpkg -r godwit-host", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("VMs run on this machine", refused.stderr.decode())
        self.answers("n1")
        self.inside("n1", "godwit vm stop --off web")
        self.inside("n1", f"{STOP}; dpkg -r godwit-host")
        self.assertNotEqual(self.inside("n1", "which godwitd", check=False).returncode, 0)
        self.install_newer("n1")
        self.inside("n1", START)
        self.answers("n1")
        self.assertIn("web", self.text("n1", "godwit vm list"))
        self.assertIn("n3", self.text("n1", "godwit node list"))
        self.inside("n1", f"{STOP}; touch /var/lib/godwit/disk.raw; dpkg -P godwit-host")
        self.assertEqual(self.text("n1", "ls -A /var/lib/godwit"), "disk.raw\n")
        self.inside("n1", "test -s /srv/web.vhdx")

    def test_from_the_first_installation_to_the_removal(self):
        for step in (self.installed, self.used, self.rolled, self.upgraded, self.removed):
            began = time.monotonic()
            step()
            print(f"{step.__name__} {time.monotonic() - began:.0f} s", end=" ", file=sys.stderr, flush=True)


def build():
    """Both versions."""
    shutil.rmtree(DEBS, ignore_errors=True)
    for name, version in (("first", ()), ("newer", ("--version", NEWER))):
        subprocess.run([gwlab_client.SOURCE / "deploy/package", "--from", os.environ["GW_BUILD"], "--output", DEBS / name, *version],
                       check=True)
        if len(list((DEBS / name).glob("*.deb"))) != 3:
            sys.exit(f"{DEBS / name}: not three packages")


if __name__ == "__main__":
    if sys.argv[1:] == ["build"]:
        build()
    else:
        gwlab_client.main()
