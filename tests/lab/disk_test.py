#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks of VMs as a guest sees them: made with the VM, with parents, of 4096-byte sectors, and DVDs."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gwlab_client  # noqa: E402
import vm_test  # noqa: E402


class Disks(vm_test.Node):
    """One node, a VM at a time."""

    def boot(self, name, disks, count=1):
        if count == 1:
            self.define(name, 1, options=" ".join(disks))
        self.godwit(f"vm start {name}")
        self.wait_ready(name, count)

    def tell(self, name, *lines):
        """Commands for the guest's agent, each of which must succeed."""
        with self.console(name) as process:
            guest = vm_test.Console(self, process)
            for line in lines:
                self.assertRegex(guest.ask(line), "^ok ", line)

    def ask(self, name, line):
        """What a shell line prints in the guest."""
        with self.console(name) as process:
            return vm_test.Console(self, process).ask(f"sh {line}", raw=True)

    def test_a_child_shows_its_parent_and_what_was_written_over_it(self):
        self.boot("one", ["--disk /root/base.vhdx,size=64M"])
        self.tell("one", "disk write dev=sda size=8M seed=5", "disk write dev=sda offset=8M size=8M seed=5")
        self.refused("disk resize /root/base.vhdx --size 128M", "in use")
        self.refused("disk create /root/child.vhdx --parent /root/base.vhdx", "in use")
        self.godwit("vm stop one", timeout=120)
        self.boot("two", ["--disk /root/child.vhdx,parent=/root/base.vhdx"])
        self.tell("two", "disk verify dev=sda size=8M seed=5", "disk write dev=sda size=8M seed=6",
                  "disk verify dev=sda size=8M seed=6", "disk verify dev=sda offset=8M size=8M seed=5")
        # As long as a child is in use its parent must not change; to read it is no harm.
        self.refused("vm start one", "in use")
        self.refused("disk merge /root/child.vhdx", "in use")
        self.assertEqual(self.godwit_json("disk show /root/base.vhdx")["size_bytes"], 64 << 20)
        self.godwit("vm stop two", timeout=120)
        self.assertEqual(self.godwit_json("disk check /root/child.vhdx")["verdict"], "ok")
        self.godwit("disk merge /root/child.vhdx")
        self.godwit("disk resize /root/base.vhdx --size 128M")
        self.boot("one", [], count=2)
        self.tell("one", "disk verify dev=sda size=8M seed=6", "disk verify dev=sda offset=8M size=8M seed=5",
                  "disk write dev=sda offset=96M size=8M seed=7", "disk verify dev=sda offset=96M size=8M seed=7")
        self.godwit("vm stop one", timeout=120)
        # The parent has changed: what else was made of it cannot be used, and says so.
        self.refused("vm start two", "changed")

    def test_sectors_and_a_dvd(self):
        self.lab.sh("n1", "mkdir /root/cd && echo a file on a DVD >/root/cd/hello && "
                          "xorriso -as mkisofs -quiet -R -o /root/cd.iso /root/cd")
        self.boot("discs", ["--disk /root/e.vhdx,size=64M", "--disk /root/n.vhdx,size=64M,sectors=4kn",
                            "--disk /root/o.vhdx,size=64M,sectors=512,format=vhdx-fixed", "--iso /root/cd.iso"])
        # By unit: names are given in the order in which the kernel gets to know them.
        sizes = self.ask("discs", "cd /sys/bus/scsi/devices; for d in 0:0:0:?/block/sd*/queue; "
                                  "do cat $d/*l_block_size; done").split()
        self.assertEqual(sizes[-6:], ["512", "4096", "4096", "4096", "512", "512"])
        self.tell("discs", *(f"disk {verb} dev=sd{d} size=16M seed=3" for d in "abc" for verb in ("write", "verify")))
        self.assertIn("Virtual DVD-ROM", self.ask("discs", "cat /sys/block/sr0/device/model"))
        self.assertIn("a file on a DVD", self.ask("discs", "mount -t iso9660 -o ro /dev/sr0 /mnt; cat /mnt/hello"))
        self.assertIn("denied=1", self.ask("discs", "echo x >/dev/sr0 || echo denied=1"))
        self.godwit("vm stop discs", timeout=120)
        for name in ("e", "n", "o"):
            self.assertEqual(self.godwit_json(f"disk check /root/{name}.vhdx")["verdict"], "ok")


if __name__ == "__main__":
    gwlab_client.main()
