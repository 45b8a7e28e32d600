#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""I/O of workers on the device of a shared volume itself: right whatever happens to nodes, services and paths meanwhile."""
import pathlib
import re
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
DIRECT = sys.argv.pop(1) if len(sys.argv) > 1 else ""
import csv_redirect_test  # noqa: E402  (takes its own words, csv_fsx and lun_way, of the command line)
import csvd_mount_test  # noqa: E402
import csvd_test  # noqa: E402
from csvd_test import WAIT_S, gwnet  # noqa: E402

DONE = re.compile(r"(\d+) requests, (\d+) on the device, 0 differences")


class Jobs:
    """csv_direct on a node."""

    def job(self, node, name, seed, *end, mib=8):
        return node.node.node.spawn(DIRECT, node.at / name, node.node.run_dir / "csvd-direct.sock", str(seed), str(mib),
                                    *end, log=f"{name}.direct")

    def said(self, node, name):
        return (node.node.node.dir / f"{name}.direct").read_text(errors="replace")

    def counted(self, node, name):
        return node.node.volume()["direct"]["users"]

    def on_device(self, jobs):
        for node, name, job in jobs:
            self.assertTrue(job.wait(WAIT_S), self.said(node, name))
            done = DONE.search(self.said(node, name))
            self.assertTrue(done, f"{node.node.name} {name}: {self.said(node, name)}\n{node.node.log()[-4000:]}")
            print("#", name, done.group(0), file=sys.stderr)
            self.assertGreater(int(done.group(2)), 0)
            job.close()
        for _, name, _ in jobs:
            self.assertEqual(len(self.sums(name)), 1)


class Load(Jobs, csvd_mount_test.Base):
    def test_random_requests_on_all_nodes_while_others_read(self):
        end = self.cluster.state / "end"
        jobs = [(n, f"f{i}", self.job(n, f"f{i}", 3 + i, end)) for i, n in enumerate(self.nodes)]
        for turn in range(6):
            for i, reader in enumerate(self.nodes):
                reader.sh(f"cat f{(i + 1 + turn % 2) % 3} > /dev/null", check=False)
        end.touch()
        self.on_device(jobs)
        jobs = [(n, f"g{i}", self.job(n, f"g{i}", 13 + i)) for i, n in enumerate(self.nodes)]
        self.on_device(jobs)
        self.leave()

    def test_coordinators_are_killed_and_moved(self):
        c = self.cluster
        end = c.state / "end"
        jobs = [(n, f"f{i}", self.job(n, f"f{i}", 7 + i, end)) for i, n in enumerate(self.nodes[1:])]
        for _ in range(2):
            victim = c.nodes[0]
            victim.kill()
            c.fence(victim)
            c.appoint(2)
            c.join(victim)
            c.tell()
            c.settled()
            self.assertEqual(c.nodes[1].godwit("csv", "move", "vol1", "--to", "n1").returncode, 0)
            c.appoint(1)
            c.settled()
        self.wait_mounted()
        end.touch()
        self.on_device(jobs)
        self.leave()

    def test_who_sleeps_keeps_what_it_may_write_to(self):
        """Nobody else gets the blocks of a user that does not answer; a service that comes later waits for it, too."""
        first, second, _ = self.nodes
        job = self.job(first, "f", 5, self.cluster.state / "end")
        gwnet.wait_for(lambda: first.node.volume()["direct"]["users"] == 1, WAIT_S, "it is let in")
        gwnet.wait_for(lambda: first.sh("stat -c %b f").stdout.strip() not in ("", "0"), WAIT_S, "it has written")
        reader = second.node.node.spawn("sh", "-c", f"cd {second.at} && for n in 1 2 3 4 5; do sha256sum f; done; echo all read",
                                        log="reader")
        job.signal(signal.SIGSTOP)
        first.node.kill()
        self.cluster.fence(first.node)
        first.node.start()
        self.cluster.holders.append((1, first.node.run))
        self.cluster.epoch += 1
        with self.assertRaises(csvd_test.Refused) as refused:
            first.node.ask("PUT", "/v1/members", self.cluster.said(first.node))
        self.assertIn("service before this one", str(refused.exception))
        job.signal(signal.SIGCONT)  # its service is gone: it ends its I/O, and fails by the dead file

        def taken():
            try:
                first.node.ask("PUT", "/v1/members", self.cluster.said(first.node))
                return True
            except csvd_test.Refused:
                return False
        gwnet.wait_for(taken, WAIT_S, "the new service is told")
        self.cluster.appoint(2)
        self.cluster.settled()
        self.assertTrue(job.wait(WAIT_S))
        self.assertTrue(reader.wait(WAIT_S))
        self.wait_mounted()
        self.leave()

    def test_a_user_that_does_not_answer_is_waited_for(self):
        first, second, _ = self.nodes
        job = self.job(first, "f", 5, self.cluster.state / "never")
        gwnet.wait_for(lambda: first.node.volume()["direct"]["told"] > 0, WAIT_S, "it knows where the file lies")
        job.signal(signal.SIGSTOP)
        # Refused after a while, so that the file's lock in the kernel is free: its user may be dying, and wait for that.
        taker = first.node.node.spawn("sh", "-c", f"cd {first.at} && until fallocate -p -o 0 -l 8M f; do :; done && echo taken",
                                      log="taker")
        log = first.node.node.dir / "taker"
        gwnet.wait_for(lambda: "does not end its I/O" in first.node.log(), WAIT_S, "somebody waits for it")
        gwnet.wait_for(lambda: "busy" in log.read_text(), WAIT_S, "it is refused")
        self.assertNotIn("taken", log.read_text())
        self.assertIn("busy", second.sh("echo mine > f", check=False).stderr)
        job.signal(signal.SIGKILL)
        self.assertTrue(job.wait(WAIT_S))
        gwnet.wait_for(lambda: "taken" in log.read_text(), WAIT_S, "then it is taken")
        self.assertTrue(taker.wait(WAIT_S))
        gwnet.wait_for(lambda: second.sh("echo mine > f", check=False).returncode == 0, WAIT_S, "the file is free")
        self.assertEqual(first.node.volume()["direct"]["users"], 0)
        self.leave()


class Path(Jobs, csv_redirect_test.Base):
    def test_a_path_is_cut(self):
        """Lost in so many words: a flush that ends with EIO on the device may have lost data, and is told. Not one that hangs:
        a file system that stands for the LUN keeps a lock of the file then, and everybody waits for it."""
        second = self.nodes[1]
        jobs = [(second, "f", self.job(second, "f", 11, self.end))]
        for _ in range(2):
            told = second.node.volume()["direct"]["told"]
            self.wait(lambda t=told: second.node.volume()["direct"]["told"] > t, "it is on the device")
            second.node.way("gone")
            self.state(second, "redirected")
            self.more_through(second)
            self.wait(lambda: second.node.volume()["slot"] == "lapsed", "its lease is over")
            self.back(second)
        self.end.touch()
        self.on_device(jobs)
        self.leave()



if __name__ == "__main__":
    unittest.main(verbosity=2)
