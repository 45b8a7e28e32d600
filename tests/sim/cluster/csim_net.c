/* SPDX-License-Identifier: Apache-2.0 */

/* Membership, and the log as the members see it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "tests/sim/cluster/csim_int.h"

/* Something about the ring is different: whoever is concerned notices after the token was lost and
 * the others agreed; a node that comes is taken in faster. */
void csim_ring_changed(struct csim *s)
{
	uint64_t lost = csim_between(s, 2050 * CSIM_MS, 2200 * CSIM_MS);
	uint64_t come = csim_between(s, 800 * CSIM_MS, 2000 * CSIM_MS);

	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		const struct csim_node *n = csim_node(s, id);

		if (n->alive) {
			csim_at(CSIM_VIEW, id, s, n->epoch == 0 ? come : lost);
			csim_at(CSIM_VIEW, id, s, come + lost);
		}
	}
}

static uint64_t heard_by(const struct csim *s, uint32_t node)
{
	uint64_t set = 0;

	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		set |= csim_hears(s, node, id) ? role_bit(id) : 0;
	}
	return set;
}

static uint32_t count(uint64_t set)
{
	return (uint32_t)__builtin_popcountll(set);
}

static void append(struct csim *s, const struct role_cmd *cmd)
{
	CHECK(s->entry_count < CSIM_LOG_MAX);
	s->entries[s->entry_count++] = *cmd;
	if (cmd->verb == 0) {
		CHECK(role_table_view(s->truth, cmd->epoch) == 0);
		return;
	}
	char line[120];
	const struct role *r = role_table_role(s->truth, cmd->role);
	int err = role_table_apply(s->truth, cmd);
	const char *wrong = role_table_check(s->truth);

	if (wrong != NULL) {
		csim_break(s, "invariant", "%s", wrong);
	}
	if (err == 0 && cmd->verb != ROLE_CMD_RENEW && cmd->verb != ROLE_CMD_ACK) {
		role_cmd_text(cmd, r != NULL ? r->name : NULL, line, sizeof(line));
		csim_say(s, "  %s", line);
		s->failovers += cmd->verb == ROLE_CMD_FENCED;
	}
}

/* The whole component installs the view at once; that it does not quite is in the late entries. */
static void install(struct csim *s, uint64_t members)
{
	bool primary = count(members) > s->cfg.nodes / 2;
	struct role_cmd view = {.epoch = s->epoch + 1};

	if (primary) {
		s->epoch++;
		s->primary = members;
		append(s, &view);
	}
	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		struct csim_node *n = csim_node(s, id);

		if ((members & role_bit(id)) == 0) {
			continue;
		}
		n->members = members;
		n->epoch = primary ? s->epoch : 0;
		for (uint32_t m = 1; m <= s->cfg.nodes; m++) {
			n->run[m - 1] =
				(members & role_bit(m)) != 0 ? csim_node(s, m)->agent->self.inc : 0;
		}
		csim_at(CSIM_APPLY, id, s, csim_between(s, CSIM_MS, 10 * CSIM_MS) + n->lag_ns)->a =
			s->entry_count;
	}
	csim_say(s, "view %s of%s%s%s%s%s", primary ? "with quorum" : "without quorum",
	         members & 1 ? " n1" : "", members & 2 ? " n2" : "", members & 4 ? " n3" : "",
	         members & 8 ? " n4" : "", members & 16 ? " n5" : "");
}

void csim_view(struct csim *s, uint32_t node)
{
	struct csim_node *n = csim_node(s, node);

	if (n->deaf || n->frozen) {
		return; /* a corosync that stands still says nothing, also not that it is alone */
	}
	uint64_t members = heard_by(s, node);
	bool agreed = true;

	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		if ((members & role_bit(id)) != 0 && csim_node(s, id)->members != members) {
			agreed = false;
		}
		/* A node that was away may have the same members and another epoch. */
		if ((members & role_bit(id)) != 0 &&
		    csim_node(s, id)->epoch != (count(members) > s->cfg.nodes / 2 ? s->epoch : 0)) {
			agreed = false;
		}
	}
	if (!agreed) {
		install(s, members);
	}
}

void csim_send(struct csim *s, uint32_t node, const struct role_cmd *cmd)
{
	uint64_t delay = csim_random(s, 50) == 0 ? csim_between(s, 20 * CSIM_MS, 500 * CSIM_MS)
	                                         : csim_between(s, CSIM_MS / 5, 3 * CSIM_MS);
	struct csim_event *e = csim_at(CSIM_COMMIT, node, s, delay);

	e->cmd = *cmd;
}

void csim_commit(struct csim *s, const struct csim_event *e)
{
	const struct csim_node *n = csim_node(s, e->node);
	uint64_t hear = heard_by(s, e->node) & s->primary;

	/* A majority of the view must persist it, in the epoch in which it was proposed. */
	if (n->epoch != s->epoch || e->cmd.epoch != s->epoch ||
	    (s->primary & role_bit(e->node)) == 0 || count(hear) <= s->cfg.nodes / 2) {
		return;
	}
	append(s, &e->cmd);
	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		if ((hear & role_bit(id)) != 0) {
			csim_at(CSIM_APPLY, id, s,
			        csim_between(s, CSIM_MS / 5, 2 * CSIM_MS) +
			                csim_node(s, id)->lag_ns)
				->a = s->entry_count;
		}
	}
}

void csim_propose(struct csim *s, struct role_cmd cmd)
{
	const struct role *r = role_table_role(s->truth, cmd.role);

	/* As from a client that tries until it is done: it goes into the log when there is one. */
	cmd.epoch = s->epoch;
	cmd.now_ms = role_table_now_ms(s->truth);
	cmd.token = r != NULL ? r->token : 0;
	append(s, &cmd);
	for (uint32_t id = 1; id <= s->cfg.nodes; id++) {
		if ((s->primary & role_bit(id)) != 0 && csim_node(s, id)->alive) {
			csim_at(CSIM_APPLY, id, s, 2 * CSIM_MS + csim_node(s, id)->lag_ns)->a =
				s->entry_count;
		}
	}
}
