/* SPDX-License-Identifier: Apache-2.0 */
#include "hv/vsp/netvsp/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/errbuf.h"
#include "hv/vsp/netvsp/netvsp_wire.h"

/* Some return a count. */
static int tap_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) >= 0 ? 0 : -errno;
}

/* These three take their argument by value. */
static int tap_ioctl_value(int fd, unsigned long request, unsigned long value)
{
	return ioctl(fd, request, value) >= 0 ? 0 : -errno;
}

static int tap_setup(int fd, struct errbuf *eb)
{
	const unsigned int want = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	int header_bytes = sizeof(struct netvsp_vnet_wire);
	struct ifreq ifr = {0};
	int flags = fcntl(fd, F_GETFL);
	int err = tap_ioctl(fd, TUNGETIFF, &ifr);

	if (err != 0) {
		errbuf_sys(eb, err, "the adapter's descriptor is no tap interface");
		errbuf_hint(eb, "open /dev/net/tun and attach it with TUNSETIFF first");
		return err;
	}
	if (((unsigned int)(unsigned short)ifr.ifr_flags & want) != want) {
		(void)errbuf_set(eb, -EINVAL,
		                 "interface %.*s was attached with flags 0x%x, not as tap, without "
		                 "packet information, with vnet header (0x%x)",
		                 IFNAMSIZ, ifr.ifr_name,
		                 (unsigned int)(unsigned short)ifr.ifr_flags, want);
		return -EINVAL;
	}
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
		return errbuf_sys(eb, -errno, "cannot make %.*s non-blocking", IFNAMSIZ,
		                  ifr.ifr_name);
	}
	err = tap_ioctl(fd, TUNSETVNETHDRSZ, &header_bytes);
	if (err == 0) {
		err = tap_ioctl_value(fd, TUNSETOFFLOAD, 0);
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot set the vnet header or offloads of %.*s",
		                  IFNAMSIZ, ifr.ifr_name);
	}
	return 0;
}

static int tap_offload(int fd, bool checksum, bool tso4, bool tso6)
{
	unsigned long flags = 0;

	if (checksum) {
		flags |= TUN_F_CSUM;
	}
	if (tso4) {
		flags |= TUN_F_TSO4;
	}
	if (tso6) {
		flags |= TUN_F_TSO6;
	}
	return tap_ioctl_value(fd, TUNSETOFFLOAD, flags);
}

static int tap_filter(int fd, const uint8_t *mac)
{
	/* struct tun_filter with its one address: the flexible array is no member here. */
	struct {
		uint16_t flags;
		uint16_t count;
		uint8_t address[6];
	} filter = {0};

	_Static_assert(sizeof(struct tun_filter) == 4, "what follows is the first address");
	if (mac != NULL) {
		filter.flags = TUN_FLT_ALLMULTI;
		filter.count = 1;
		memcpy(filter.address, mac, sizeof(filter.address));
	}
	return tap_ioctl(fd, TUNSETTXFILTER, &filter);
}

static const struct tap_ops tap_linux_ops = {
	.setup = tap_setup,
	.offload = tap_offload,
	.filter = tap_filter,
};

const struct tap_ops *tap_linux(void)
{
	return &tap_linux_ops;
}
