#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Networks and shared disks of three nodes, whole and cut."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwlab_client  # noqa: E402
from gwlab_client import wait_for  # noqa: E402

SUBNETS = {"cluster": 1, "storage": 2, "guest": 3}
DISK = "/dev/disk/by-lun/lun0"


class Cables(gwlab_client.LabCase):
    """Cuts of one node must not touch the others."""

    options = ("--nodes", "3", "--memory", "512M", "--lun", "64M", "--lun", "32M")

    def reaches(self, node, net, other):
        """Does a ping from @node find node number @other on @net?"""
        return self.lab.exec(node, f"ping -c 1 -W 1 10.77.{SUBNETS[net]}.{other}").returncode == 0

    def carrier(self, node, net):
        return self.lab.sh(node, f"cat /sys/class/net/{net}/carrier").strip()

    def write(self, node, block, text, disk=DISK):
        """One 4 KiB block with O_DIRECT; the exit status."""
        return self.lab.exec(node, f"printf %-4096s '{text}' | dd of={disk} bs=4096 seek={block} oflag=direct "
                             "conv=notrunc iflag=fullblock status=none", timeout=90).returncode

    def read(self, node, block, disk=DISK):
        done = self.lab.exec(node, f"dd if={disk} bs=4096 skip={block} count=1 iflag=direct status=none",
                             timeout=90)
        return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None

    # ---- networks ----

    def test_each_network_is_cut_and_healed_alone(self):
        for net in SUBNETS:
            self.assertTrue(self.reaches("n1", net, 2), net)
            self.lab.do("cut", "n1", net)
            self.assertEqual(self.carrier("n1", net), "0")
            self.assertFalse(self.reaches("n1", net, 2), net)
            self.assertFalse(self.reaches("n2", net, 1), net)
            self.assertTrue(self.reaches("n2", net, 3), "others keep it")
            for other in SUBNETS.keys() - {net}:
                self.assertTrue(self.reaches("n1", other, 2), f"{other} while {net} is cut")
            self.lab.do("heal", "n1", net)
            wait_for(f"{net} is back", lambda net=net: self.reaches("n1", net, 2))

    def test_a_silent_cut_keeps_the_carrier(self):
        self.lab.do("cut", "n1", "cluster", "--silent")
        self.assertEqual(self.carrier("n1", "cluster"), "1")
        self.assertFalse(self.reaches("n1", "cluster", 2))
        self.lab.do("heal", "n1", "cluster")
        wait_for("it is back", lambda: self.reaches("n1", "cluster", 2))

    def test_cuts_outlast_the_power(self):
        self.lab.do("cut", "n3", "guest")
        self.lab.do("cut", "n3", "lun1")
        self.lab.do("kill", "n3")
        self.lab.do("start", "n3")
        self.assertEqual(self.carrier("n3", "guest"), "0")
        self.assertIsNone(self.read("n3", 0, "/dev/disk/by-lun/lun1"))
        cuts = next(n["cuts"] for n in self.lab.status()["nodes"] if n["name"] == "n3")
        self.assertEqual(cuts, {"guest": "cable", "lun1": "cable"})
        self.lab.do("kill", "n3")
        self.lab.do("heal", "n3", "guest")
        self.lab.do("heal", "n3", "lun1")
        self.lab.do("start", "n3")
        self.assertTrue(self.reaches("n3", "guest", 1))
        self.assertIsNotNone(self.read("n3", 0, "/dev/disk/by-lun/lun1"))

    def test_rdma_runs_between_two_nodes(self):
        with self.lab.spawn("n2", "exec ib_send_bw -d rxe0 -F -s 65536 -n 200 2>&1"):
            # The server listens on TCP port 18515 before it answers.
            wait_for("it listens", lambda: ":18515" in self.lab.sh("n2", "ss -ltn"))
            out = self.lab.sh("n1", "ib_send_bw -d rxe0 -F -s 65536 -n 200 10.77.2.2 2>&1", timeout=120)
        self.assertRegex(out, r"\n *65536 +200 +[1-9]")
        with self.lab.spawn("n2", "exec rping -s -a 10.77.2.2 -C 20 -v"):
            wait_for("rping answers",
                     lambda: self.lab.exec("n1", "rping -c -a 10.77.2.2 -C 20 -v", timeout=30).returncode == 0)

    # ---- shared disks ----

    def test_what_one_node_writes_directly_the_others_read(self):
        for k in range(6):
            writer, text = f"n{k % 3 + 1}", f"block {k} of n{k % 3 + 1}"
            self.assertEqual(self.write(writer, k % 2, text), 0)
            for reader in ("n1", "n2", "n3"):
                self.assertEqual(self.read(reader, k % 2), text)

    def test_the_disks_are_those_asked_for(self):
        for node in ("n1", "n3"):
            sizes = self.lab.sh(node, "for d in lun0 lun1; do blockdev --getsize64 /dev/disk/by-lun/$d; done")
            self.assertEqual(sizes.split(), [str(64 << 20), str(32 << 20)])

    def test_a_cut_disk_fails_at_once_for_this_node_only(self):
        self.assertEqual(self.write("n1", 5, "before"), 0)
        self.lab.do("cut", "n1", "lun")
        begin = time.monotonic()
        self.assertNotEqual(self.write("n1", 5, "while cut"), 0)
        self.assertIsNone(self.read("n1", 5))
        self.assertLess(time.monotonic() - begin, 15)
        self.assertIsNotNone(self.read("n1", 0, "/dev/disk/by-lun/lun1"), "the other disk")
        self.assertEqual(self.read("n2", 5), "before")
        self.assertEqual(self.write("n2", 5, "by n2"), 0)
        self.lab.do("heal", "n1", "lun")
        self.assertEqual(self.read("n1", 5), "by n2")

    def test_cutting_and_healing_twice_is_once(self):
        for _ in range(2):
            self.lab.do("cut", "n1", "lun")
        self.lab.do("cut", "n1", "lun", "--silent", "--stall", "5")
        self.lab.do("cut", "n1", "lun")
        for _ in range(2):
            self.lab.do("heal", "n1", "lun")
        self.assertIsNotNone(self.read("n1", 0))

    def test_a_silent_cut_stalls_requests_and_a_heal_lets_them_go_on(self):
        self.assertEqual(self.write("n1", 6, "before"), 0)
        self.lab.do("cut", "n1", "lun", "--silent", "--stall", "60")
        with self.lab.spawn("n1", f"printf %-4096s stalled | dd of={DISK} bs=4096 seek=6 oflag=direct "
                            "conv=notrunc iflag=fullblock status=none") as p:
            time.sleep(4)  # What is measured is that nothing happens in this time.
            self.assertIsNone(p.poll())
            self.assertEqual(self.read("n2", 6), "before")
            self.lab.do("heal", "n1", "lun")
            self.assertEqual(p.wait(60), 0)
        self.assertEqual(self.read("n2", 6), "stalled")

    def test_a_silent_cut_fails_requests_in_the_end(self):
        self.assertEqual(self.write("n1", 7, "before"), 0)
        self.lab.do("cut", "n1", "lun", "--silent", "--stall", "4")
        self.assertNotEqual(self.write("n1", 7, "never"), 0)
        self.assertEqual(self.read("n2", 7), "before")
        self.lab.do("heal", "n1", "lun")
        self.assertEqual(self.read("n1", 7), "before")

    def test_a_stalled_write_dies_with_its_node(self):
        self.assertEqual(self.write("n1", 8, "before"), 0)
        self.lab.do("cut", "n1", "lun", "--silent", "--stall", "60")
        with self.lab.spawn("n1", f"printf %-4096s late | dd of={DISK} bs=4096 seek=8 oflag=direct "
                            "conv=notrunc iflag=fullblock status=none; echo done") as p:
            time.sleep(3)  # It is on its way by then.
            self.assertIsNone(p.poll())
            self.lab.do("kill", "n1")
        self.lab.do("heal", "n1", "lun")
        self.lab.do("start", "n1")
        self.assertEqual(self.read("n1", 8), "before")
        self.assertEqual(self.read("n2", 8), "before")


if __name__ == "__main__":
    gwlab_client.main()
