#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Set up a node: run by lab-agent in the node's root file system, before the first command.
# Environment: LAB_NODE (number), LAB_NODES (how many), LAB_LUNS (names). Output: the node's console.
set -eu

node=$LAB_NODE
name=n$node

# What udev would load on a real machine for the hardware and for device nodes.
kvm=kvm_intel
if grep -qw svm /proc/cpuinfo; then
	kvm=kvm_amd
fi
modprobe -a virtio_net virtio_console i6300esb "$kvm" tun fuse configfs rdma_rxe ib_uverbs rdma_ucm

hostname "$name"
echo "$name" >/etc/hostname
if [ ! -e /etc/lab-node ]; then # The first boot of this disk: not the host's identity.
	tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
	echo "$name" >/etc/lab-node
fi
{
	echo "127.0.0.1 localhost"
	i=1
	while [ "$i" -le "$LAB_NODES" ]; do
		echo "10.77.1.$i n$i"
		echo "10.77.2.$i n$i-storage"
		echo "10.77.3.$i n$i-guest"
		i=$((i + 1))
	done
} >/etc/hosts

# The controller numbers the networks in the fifth byte of the address: 52:54:00:4c:<network>:<node>.
batch=/run/lab-network
echo "link set lo up" >$batch
for dir in /sys/class/net/*; do
	read -r address <"$dir/address"
	case $address in
	52:54:00:4c:01:*) net=cluster subnet=1 mtu=1500 ;;
	52:54:00:4c:02:*) net=storage subnet=2 mtu=9000 ;;
	52:54:00:4c:03:*) net=guest subnet=3 mtu=1500 ;;
	*) continue ;;
	esac
	cat >>$batch <<EOF
link set ${dir##*/} name $net mtu $mtu
address add 10.77.$subnet.$node/24 dev $net
link set $net up
EOF
done
ip -batch $batch
# After the addresses: soft-RoCE makes its GIDs from them.
rdma link add rxe0 type rxe netdev storage

# There is no udev: name the disks and ports that the controller numbered.
mkdir -p /dev/disk/by-lun /dev/virtio-ports
for dir in /sys/block/vd*; do
	serial=
	read -r serial <"$dir/serial" || true # No newline at its end.
	case " $LAB_LUNS " in
	*" $serial "*) ln -sf "/dev/${dir##*/}" "/dev/disk/by-lun/$serial" ;;
	esac
done
for dir in /sys/class/virtio-ports/*; do
	[ ! -f "$dir/name" ] || ln -sf "/dev/${dir##*/}" "/dev/virtio-ports/$(cat "$dir/name")"
done

mount -t configfs config /sys/kernel/config || true # Mounted by the module's user already.
sysctl -q -w kernel.panic=1 kernel.hung_task_timeout_secs=0 \
	net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
