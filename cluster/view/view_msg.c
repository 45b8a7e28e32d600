/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "cluster/view/frame.h"
#include "cluster/view/view.h"
#include "cluster/view/view_wire.h"

#define VOTES_MAX 255u /* of a node: sums stay far from 2^32 */

_Static_assert(VIEW_SEND_MAX == sizeof(struct frame_wire) + sizeof(struct view_hello_wire) +
                                        VIEW_NODES_MAX * sizeof(struct view_node_wire),
               "the largest message");

size_t view_config_encode(const struct view_config *config, void *buf)
{
	uint8_t *at = buf;

	for (uint32_t i = 0; i < config->count; i++) {
		struct view_node_wire w = {.nodeid = le32_make(config->nodes[i].nodeid),
		                           .votes = le32_make(config->nodes[i].votes),
		                           .uuid = config->nodes[i].uuid};

		memcpy(at, &w, sizeof(w));
		at += sizeof(w);
	}
	return config->count * sizeof(struct view_node_wire);
}

/* @none: an empty list is fine: a node that has not joined yet. */
static int config_decode(const void *buf, size_t len, bool none, struct view_config *out)
{
	struct view_config config = {0};
	size_t count = len / sizeof(struct view_node_wire);

	if (len % sizeof(struct view_node_wire) != 0 || count > VIEW_NODES_MAX ||
	    (count == 0 && !none)) {
		return -EBADMSG;
	}
	for (size_t i = 0; i < count; i++) {
		struct view_node_wire w;
		struct view_node *node = &config.nodes[i];

		memcpy(&w, (const uint8_t *)buf + i * sizeof(w), sizeof(w));
		*node = (struct view_node){
			.nodeid = le32_get(w.nodeid), .votes = le32_get(w.votes), .uuid = w.uuid};
		if (node->nodeid == 0 || node->votes == 0 || node->votes > VOTES_MAX) {
			return -EBADMSG;
		}
		for (size_t k = 0; k < i; k++) {
			if (config.nodes[k].nodeid == node->nodeid ||
			    guid_equal(&config.nodes[k].uuid, &node->uuid)) {
				return -EBADMSG;
			}
		}
	}
	config.count = (uint32_t)count;
	*out = config;
	return 0;
}

int view_config_decode(const void *buf, size_t len, struct view_config *out)
{
	return config_decode(buf, len, false, out);
}

uint32_t view_config_votes(const struct view_config *config, uint32_t nodeid,
                           const struct guid *uuid)
{
	for (uint32_t i = 0; i < config->count; i++) {
		if (config->nodes[i].nodeid == nodeid && guid_equal(&config->nodes[i].uuid, uuid)) {
			return config->nodes[i].votes;
		}
	}
	return 0;
}

uint32_t view_config_total(const struct view_config *config)
{
	uint32_t total = 0;

	for (uint32_t i = 0; i < config->count; i++) {
		total += config->nodes[i].votes;
	}
	return total;
}

uint32_t view_config_witness(const struct view_config *config)
{
	uint32_t votes = 0;

	for (uint32_t i = 0; i < config->count; i++) {
		if (config->nodes[i].nodeid == VIEW_WITNESS_NODEID) {
			votes += config->nodes[i].votes;
		}
	}
	return votes;
}

size_t view_hello_encode(const struct view_hello *hello, uint8_t buf[VIEW_SEND_MAX])
{
	struct view_hello_wire w = {
		.ring_seq = le64_make(hello->ring.seq),
		.ring_node = le32_make(hello->ring.nodeid),
		.round = le32_make(hello->round),
		.cluster = hello->cluster,
		.uuid = hello->uuid,
		.incarnation = hello->incarnation,
		.promised = le64_make(hello->promised),
		.last_epoch = le64_make(hello->last_epoch),
		.last_index = le64_make(hello->last_index),
		.last_hash = le64_make(hello->last_hash),
		.commit_index = le64_make(hello->commit_index),
		.config_version = le64_make(hello->config_version),
		.level = le32_make(hello->level),
		.level_max = le32_make(hello->level_max),
		.flags = le16_make(hello->flags),
		.node_count = le16_make((uint16_t)hello->config.count),
	};
	uint8_t *body = buf + sizeof(struct frame_wire);
	size_t len = sizeof(w);

	memcpy(body, &w, sizeof(w));
	len += view_config_encode(&hello->config, body + sizeof(w));
	return frame_seal(buf, FRAME_HELLO, len);
}

int view_hello_decode(const uint8_t *body, size_t len, struct view_hello *out)
{
	struct view_hello_wire w;
	struct view_config config;

	if (len < sizeof(w)) {
		return -EBADMSG;
	}
	memcpy(&w, body, sizeof(w));

	uint16_t flags = le16_get(w.flags);

	if (le32_get(w.reserved) != 0 || le16_get(w.node_count) > VIEW_NODES_MAX ||
	    (flags & ~(VIEW_FLAG_QUORATE | VIEW_FLAG_INCOMPLETE | VIEW_FLAG_WITNESS |
	               VIEW_FLAG_FORCED)) != 0 ||
	    le64_get(w.ring_seq) == 0 || le32_get(w.round) == 0 ||
	    le64_get(w.commit_index) > le64_get(w.last_index) ||
	    le32_get(w.level) > le32_get(w.level_max) ||
	    len - sizeof(w) != le16_get(w.node_count) * sizeof(struct view_node_wire) ||
	    config_decode(body + sizeof(w), len - sizeof(w), true, &config) != 0) {
		return -EBADMSG;
	}
	*out = (struct view_hello){
		.ring = {.seq = le64_get(w.ring_seq), .nodeid = le32_get(w.ring_node)},
		.round = le32_get(w.round),
		.cluster = w.cluster,
		.uuid = w.uuid,
		.incarnation = w.incarnation,
		.promised = le64_get(w.promised),
		.last_epoch = le64_get(w.last_epoch),
		.last_index = le64_get(w.last_index),
		.last_hash = le64_get(w.last_hash),
		.commit_index = le64_get(w.commit_index),
		.config_version = le64_get(w.config_version),
		.level = le32_get(w.level),
		.level_max = le32_get(w.level_max),
		.flags = flags,
		.config = config,
	};
	return 0;
}
