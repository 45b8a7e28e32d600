/* SPDX-License-Identifier: Apache-2.0 */

/* name - operations on names: one operation of the volume each. And lists of names. */
#include <errno.h>
#include <string.h>

#include "csv/mount/mount_int.h"

static void set_name(struct mreq *r)
{
	r->ask.op.name = r->name;
	r->ask.op.name_len = (uint32_t)strlen(r->name);
}

/* ---- lookup ---- */

static void looked_up(struct mreq *r, int result)
{
	if (result != 0) {
		mount_reply_err(r, result);
	} else {
		mount_reply_entry(r, &r->ask.op.attr);
	}
}

void mount_lookup(struct mreq *r)
{
	mount_op_begin(r, CSV_OP_LOOKUP);
	set_name(r);
	mount_ask(r, CSV_MOUNT_OP, looked_up);
}

/* ---- create, mkdir, mknod ---- */

static void create_held(struct mreq *r, int result)
{
	if (result != 0) {
		mount_reply_err(r, result);
	} else {
		hand_open(r, &r->want);
	}
}

static void created(struct mreq *r, int result)
{
	const struct csv_attr *attr = &r->ask.op.attr;
	struct node *n;

	if (result != 0 || !r->created) {
		looked_up(r, result);
		return;
	}
	/* The request goes on with what was made, open for writing even if it is to be read: it has
	 * no mode yet that could forbid it. */
	n = mount_node_make(r->m, attr->ino, attr->generation);
	if (n == NULL) {
		mount_reply_err(r, -ENOMEM);
		return;
	}
	n->lookups--; /* that is for the kernel, when it is told */
	mount_use2(r, r->node);
	r->node->users--;
	r->node = NULL;
	mount_use(r, n);
	r->want = *attr;
	r->writes = (r->flags & 3u) != 0;
	file_hold(r, r->writes, create_held);
}

void mount_create(struct mreq *r, enum csv_op_type type)
{
	mount_op_begin(r, type);
	set_name(r);
	r->ask.op.mode = r->want.mode;
	r->ask.op.uid = r->want.uid;
	r->ask.op.gid = r->want.gid;
	mount_ask(r, CSV_MOUNT_OP, created);
}

/* ---- unlink, rmdir, rename ---- */

void mount_remove(struct mreq *r, enum csv_op_type type)
{
	mount_op_begin(r, type);
	set_name(r);
	mount_ask(r, CSV_MOUNT_OP, mount_reply_err);
}

void mount_rename(struct mreq *r)
{
	mount_op_begin(r, CSV_OP_RENAME);
	set_name(r);
	r->ask.op.dir2 = r->node2->ino;
	r->ask.op.name2 = r->name2;
	r->ask.op.name2_len = (uint32_t)strlen(r->name2);
	r->ask.op.no_replace = (r->flags & 1u) != 0;
	mount_ask(r, CSV_MOUNT_OP, mount_reply_err);
}

/* ---- readdir ---- */

/* In the slot: the names from the volume, then what the kernel gets. */
#define LIST_BYTES (MOUNT_NAMES * sizeof(struct csv_name))
#define REPLY_AT ((LIST_BYTES + MOUNT_BLOCK - 1) / MOUNT_BLOCK * MOUNT_BLOCK)
#define REPLY_MAX (256u << 10)
_Static_assert(REPLY_AT + REPLY_MAX <= MOUNT_SLOT_BYTES, "a list fits into a slot");

static void list_more(struct mreq *r);

static void list_end(struct mreq *r)
{
	mount_reply_data(r, r->slot->base + REPLY_AT, r->from);
}

static void listed(struct mreq *r, int result)
{
	const struct csv_name *names = r->ask.op.names;
	uint32_t count = r->ask.op.names_count;

	if (result != 0) {
		mount_reply_err(r, result);
		return;
	}
	for (uint32_t i = 0; i < count && i < MOUNT_NAMES; i++) {
		uint64_t next = mount_dir_offset(names[i].cookie);

		if (!mount_add_entry(r, r->slot->base + REPLY_AT, r->len, &r->from, names[i].name,
		                     &names[i], next)) {
			list_end(r);
			return;
		}
		r->offset = next;
	}
	if (count == 0) {
		list_end(r);
	} else {
		list_more(r);
	}
}

static void list_more(struct mreq *r)
{
	mount_op_begin(r, CSV_OP_LIST);
	r->ask.op.cookie = mount_dir_cookie(r->offset);
	r->ask.op.names = (struct csv_name *)(void *)r->slot->base;
	r->ask.op.names_max = MOUNT_NAMES;
	mount_ask(r, CSV_MOUNT_OP, listed);
}

static void list_begin(struct mreq *r, int result)
{
	static const char *const dots[] = {".", ".."};

	(void)result;
	/* r->from: bytes of the answer. */
	while (r->offset < 2) {
		if (!mount_add_entry(r, r->slot->base + REPLY_AT, r->len, &r->from, dots[r->offset],
		                     NULL, r->offset + 1)) {
			list_end(r);
			return;
		}
		r->offset++;
	}
	list_more(r);
}

void mount_readdir(struct mreq *r)
{
	r->len = r->len < REPLY_MAX ? r->len : REPLY_MAX;
	mount_slot_want(r, list_begin);
}
