/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_SWITCH_SWITCH_TEXT_H
#define HV_SWITCH_SWITCH_TEXT_H

/*
 * switch_text - what nft(8) and dnsmasq(8) are told. Pure: definitions in, text out. All that goes
 * into the texts is ours (names made of ids) or was parsed (addresses), so nothing is quoted.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

struct switch_def;

/*
 * switch_rules() - one transaction that replaces our three tables, inet godwit, netdev godwit and
 * bridge godwit, whatever they held:
 * - NAT switches: what leaves gets the host's address; what comes in is only the answer to
 *   something that left; sources that are not of the subnet do not leave.
 * - switches without the host: nothing reaches it through the bridge.
 * - guests send no spanning tree messages and no VLAN tags.
 * @guard: the host forwards only because we said so: it forwards for NAT switches and for nobody
 * else.
 * @count 0: the tables are removed.
 * @out: to free(). Returns 0; -ENOMEM.
 */
MUST_USE int switch_rules(const struct switch_def *const defs[], uint32_t count, bool guard,
                          char **out);

/*
 * switch_dhcp_config() - dnsmasq's configuration for a NAT switch: addresses of the subnet from
 * the third on, the host as router and name server.
 * @leases: path of the file with the addresses given out. @out: to free(). Returns 0; -ENOMEM.
 */
MUST_USE int switch_dhcp_config(const struct switch_def *def, const char *leases, char **out);

#endif
