#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The scripts of the package godwit-host, with a /var/lib and a /run of their own and somebody else in systemd's place."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[3] / "deploy/debian"
# Says what it was called with. Enabled is what was enabled.
STAND_IN = '#!/bin/sh\necho "${0##*/} $*" >>"$SAID"\n[ "${0##*/} $2" != "deb-systemd-helper was-enabled" ] || [ "$3" = "${ENABLED:-$3}" ]\n'
STATE = ("godwit.db", "godwit.db-wal", "csvd.json", "godwitd.blackbox", "godwitd.lock", "cert/node.key", "cluster/db.sqlite",
         "cluster.left-7/db.sqlite", "vm/1/saved.state", "switch/inet.leases")


class Scripts(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("deb-systemd-helper", "deb-systemd-invoke", "systemctl", "systemd-tmpfiles", "groupadd", "pgrep"):
            (self.dir / name).write_text(STAND_IN)
            (self.dir / name).chmod(0o755)
        (self.dir / "lib").mkdir()

    def script(self, name, *words, before=":", **env):
        """Runs it in a mount namespace; what it called, and what it said."""
        said = self.dir / "said"
        said.write_text("")
        line = (f"mount --bind {self.dir}/lib /var/lib && mount -t tmpfs none /run && mkdir -p /run/systemd/system && {before} && "
                f"{SCRIPTS}/{name} \"$@\"")
        done = subprocess.run(["unshare", "--mount", "sh", "-c", line, "sh", *words], capture_output=True, text=True, timeout=60,
                              check=False, env={**os.environ, "PATH": f"{self.dir}:{os.environ['PATH']}", "SAID": str(said), **env})
        return done.returncode, said.read_text().splitlines(), done.stderr

    def fill(self):
        for name in STATE:
            path = self.dir / "lib/godwit" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")

    def test_both_services_are_enabled_and_begun(self):
        status, said, _ = self.script("postinst", "configure", "")
        self.assertEqual(status, 0)
        for unit in ("godwitd.service", "godwit-csvd.service"):
            for call in (f"deb-systemd-helper unmask {unit}", f"deb-systemd-helper enable {unit}", f"deb-systemd-invoke start {unit}"):
                self.assertIn(call, said)
        self.assertEqual((self.dir / "lib/godwit").stat().st_mode & 0o777, 0o750)

    def test_what_is_disabled_stays_so(self):
        _, said, _ = self.script("postinst", "configure", "0.1", ENABLED="godwitd.service")
        self.assertIn("deb-systemd-helper enable godwitd.service", said)
        self.assertIn("deb-systemd-helper update-state godwit-csvd.service", said)
        self.assertNotIn("deb-systemd-helper enable godwit-csvd.service", said)

    def test_an_upgrade_restarts_but_not_under_open_files_of_volumes(self):
        _, said, words = self.script("postinst", "configure", "0.1")
        self.assertIn("deb-systemd-invoke restart godwitd.service", said)
        self.assertIn("deb-systemd-invoke restart godwit-csvd.service", said)
        self.assertEqual(words, "")
        _, said, words = self.script("postinst", "configure", "0.1",
                                     before="mkdir -p /var/lib/godwit/csv/vol1 && exec 5>/var/lib/godwit/csv/vol1/web.vhdx")
        self.assertIn("deb-systemd-invoke restart godwitd.service", said)
        self.assertNotIn("deb-systemd-invoke restart godwit-csvd.service", said)
        self.assertIn("systemctl restart godwit-csvd", words)

    def test_a_removal_stops_and_keeps(self):
        self.fill()
        status, said, _ = self.script("prerm", "remove",)
        self.assertEqual(status, 1, said)  # the stand-in for pgrep found a VM
        (self.dir / "pgrep").write_text("#!/bin/sh\nexit 1\n")
        status, said, _ = self.script("prerm", "remove")
        self.assertEqual((status, said), (0, ["deb-systemd-invoke stop godwitd.service godwit-csvd.service"]))
        self.assertEqual(self.script("prerm", "upgrade", "2")[:2], (0, []))
        self.assertEqual(self.script("postrm", "remove")[0], 0)
        self.assertEqual(self.script("postrm", "upgrade", "2")[0], 0)
        for name in STATE:
            self.assertTrue((self.dir / "lib/godwit" / name).exists(), name)

    def test_a_purge_takes_what_the_services_made(self):
        self.fill()
        (self.dir / "lib/godwit/csv/vol1").mkdir(parents=True)
        status, said, words = self.script("postrm", "purge")
        self.assertEqual((status, words), (0, ""))
        self.assertIn("deb-systemd-helper purge godwit-csvd.service", said)
        self.assertFalse((self.dir / "lib/godwit").exists())
        self.assertEqual(self.script("postrm", "purge")[0], 0)  # twice

    def test_a_purge_leaves_disks_and_what_is_mounted(self):
        self.fill()
        (self.dir / "lib/godwit/web1.vhdx").write_text("a disk")
        (self.dir / "lib/godwit/csv/vol1").mkdir(parents=True)
        volume = self.dir / "volume"
        volume.mkdir()
        (volume / "db.vhdx").write_text("a disk")
        status, _, words = self.script("postrm", "purge", before=f"mount --bind {volume} /var/lib/godwit/csv/vol1")
        self.assertEqual(status, 0)
        self.assertTrue((volume / "db.vhdx").exists())
        self.assertEqual(sorted(p.name for p in (self.dir / "lib/godwit").iterdir()), ["csv", "web1.vhdx"])
        self.assertIn("/var/lib/godwit/web1.vhdx", words)


if __name__ == "__main__":
    probe = shutil.which("unshare") and subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/run"], check=False,
                                                       capture_output=True)
    if not probe or probe.returncode != 0:
        print("skipped: no mount namespaces here (root?)")
        sys.exit(77)
    unittest.main()
