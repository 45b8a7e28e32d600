/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "base/bitmap.h"
#include "base/fault.h"
#include "csv/check/check_int.h"

#define TEXT_MAX 600u
#define LOST_DIR "lost+found"

static void say(struct check *c, bool fault, const char *fmt, va_list args) PRINTF_LIKE(3, 0);

static void say(struct check *c, bool fault, const char *fmt, va_list args)
{
	char text[TEXT_MAX];

	(void)vsnprintf(text, sizeof(text), fmt, args);
	c->cfg->say(c->cfg->arg, fault, text);
}

void check_fault(struct check *c, const char *fmt, ...)
{
	va_list args;

	c->faults++;
	va_start(args, fmt);
	say(c, true, fmt, args);
	va_end(args);
}

void check_did(struct check *c, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say(c, false, fmt, args);
	va_end(args);
}

/* The newest image of a metadata block. A block that cannot be read ends the look. */
int check_read(struct check *c, uint64_t block, void *buf)
{
	uint64_t at = c->meta != NULL ? csv_meta_where(c->meta, block) : block;
	int err = c->disk->read(c->disk->arg, at, 1, buf);

	if (err != 0) {
		check_fault(c, "block %" PRIu64 ": cannot be read", at);
		c->err = err;
	}
	return err;
}

void check_write(struct check *c, enum csv_block_type type, uint64_t block, void *buf)
{
	const struct csv_block_wire *w = buf;
	const struct csv_block_id id = {type, block, le64_get(w->owner), &c->super.volume};

	if (!c->repair || c->err != 0) {
		return;
	}
	csv_block_seal(buf, &id, c->term, le64_get(w->seq));
	c->err = c->disk->write(c->disk->arg, block, 1, buf);
}

int check_push(struct check *c, uint64_t **array, uint64_t *count, uint64_t *max, uint64_t value)
{
	if (*count == *max) {
		uint64_t more = *max == 0 ? 1024 : *max * 2;
		uint64_t *grown = gw_realloc_array(*array, more, sizeof(uint64_t));

		if (grown == NULL) {
			return -ENOMEM;
		}
		*array = grown;
		*max = more;
	}
	(*array)[(*count)++] = value;
	return c->err;
}

int csv_check_drive(struct csv_meta *m, const struct csv_check_disk *disk, struct errbuf *eb)
{
	struct csv_io io;

	while (csv_meta_next_io(m, &io)) {
		int err = 0;

		switch (io.op) {
		case CSV_IO_READ:
			err = disk->read(disk->arg, io.block, io.count, io.buf);
			break;
		case CSV_IO_WRITE:
			err = disk->write(disk->arg, io.block, io.count, io.buf);
			break;
		case CSV_IO_FLUSH:
			err = disk->flush(disk->arg);
			break;
		}
		csv_meta_io_done(m, io.id, err);
	}
	return csv_meta_status(m, eb);
}

int csv_check_super(const struct csv_check_disk *disk, struct csv_super *out, uint32_t *bad_copies,
                    struct errbuf *eb)
{
	uint64_t places[CSV_SUPER_COPIES];
	uint32_t good = 0;
	int first = 0;

	if (csv_layout_super_places(disk->size_bytes, places) != 0) {
		return errbuf_set(eb, -EINVAL, "%" PRIu64 " bytes are no volume", disk->size_bytes);
	}
	for (uint32_t i = 0; i < CSV_SUPER_COPIES; i++) {
		uint8_t buf[CSV_BLOCK_BYTES];
		struct csv_super s;
		int err = disk->read(disk->arg, places[i], 1, buf);

		if (err == 0) {
			err = csv_super_decode(buf, places[i], false, &s, first == 0 ? eb : NULL);
		} else if (first == 0) {
			errbuf_sys(eb, err, "superblock at block %" PRIu64, places[i]);
		}
		if (err == -EPROTONOSUPPORT) {
			return err; /* a newer version's: no copy may be used around it */
		}
		if (err == 0 && s.layout.size * CSV_BLOCK_BYTES > disk->size_bytes) {
			err = errbuf_set(first == 0 ? eb : NULL, -EUCLEAN,
			                 "superblock at block %" PRIu64
			                 ": the volume is larger than its device",
			                 places[i]);
		}
		if (err == 0 && (good == 0 || s.seq > out->seq)) {
			*out = s;
		}
		good += err == 0;
		first = first == 0 ? err : first;
		/* A device that grew: the volume knows where its copies are. */
		if (err == 0 && i == 0) {
			memcpy(places, s.layout.copies, sizeof(places));
		}
	}
	if (bad_copies != NULL) {
		*bad_copies = CSV_SUPER_COPIES - good;
	}
	return good != 0 ? 0 : first;
}

static int check_supers(struct check *c, struct errbuf *eb)
{
	uint32_t bad = 0;
	int err = csv_check_super(c->disk, &c->super, &bad, eb);

	if (err != 0) {
		return err;
	}
	for (uint32_t i = 0; i < CSV_SUPER_COPIES && bad != 0; i++) {
		uint64_t at = c->super.layout.copies[i];
		uint8_t buf[CSV_BLOCK_BYTES];
		struct errbuf why = {0};
		struct csv_super s;

		if (check_read(c, at, buf) != 0) {
			return c->err;
		}
		if (csv_super_decode(buf, at, false, &s, &why) == 0) {
			continue;
		}
		check_fault(c, "%s", why.text);
		if (c->repair) {
			s = c->super;
			s.copy = i;
			csv_super_encode(&s, buf);
			err = c->disk->write(c->disk->arg, at, 1, buf);
			if (err != 0) {
				return err;
			}
			check_did(c, "block %" PRIu64 ": superblock written anew", at);
		}
	}
	return 0;
}

/* The journal: its images are seen where they are, or, with repair, put in place first. */
static int open_journal(struct check *c, struct csv_check_result *out, struct errbuf *eb)
{
	const struct csv_meta_cfg cfg = {
		.super = &c->super,
		.quiet = true,
		.read_only = !c->repair,
		.journal_only = true,
	};
	struct csv_meta_stats stats;
	int err = csv_meta_create(&cfg, &c->meta, eb);

	if (err == 0) {
		err = csv_check_drive(c->meta, c->disk, eb);
	}
	if (err != 0) {
		return err;
	}
	csv_meta_get_stats(c->meta, &stats);
	c->term = csv_meta_term(c->meta);
	if (out != NULL) {
		out->replayed = stats.replayed_txns;
	}
	if (!c->repair) {
		return 0;
	}
	csv_meta_close(c->meta);
	err = csv_check_drive(c->meta, c->disk, eb);
	csv_meta_destroy(c->meta);
	c->meta = NULL;
	return err == -ESHUTDOWN ? 0 : err;
}

static int look_allocate(struct check *c)
{
	const struct csv_layout *l = &c->super.layout;

	c->units = gw_calloc(BITMAP_WORDS(csv_layout_units(l)), sizeof(uint64_t));
	c->pool = gw_calloc(BITMAP_WORDS(l->pool_blocks), sizeof(uint64_t));
	c->bufs = gw_calloc(CSV_LEVEL_MAX + 1, CSV_BLOCK_BYTES);
	return c->units == NULL || c->pool == NULL || c->bufs == NULL ? -ENOMEM : 0;
}

static void look_free(struct check *c)
{
	csv_meta_destroy(c->meta);
	free(c->units);
	free(c->pool);
	free(c->dirs);
	free(c->lost);
	free(c->bufs);
}

static int run_op(struct check *c, struct csv_meta *m, struct csv_op *op)
{
	csv_meta_submit(m, op);
	while (csv_meta_completed(m) == NULL) {
		int err = csv_check_drive(m, c->disk, NULL);

		if (err != 0) {
			return err;
		}
	}
	return op->result;
}

/* Files that nothing names get a name, of their number. */
static int attach_lost(struct check *c, struct errbuf *eb)
{
	const struct csv_meta_cfg cfg = {.super = &c->super, .quiet = true};
	struct csv_op dir = {
		.type = CSV_OP_MKDIR,
		.dir = csv_layout_root(&c->super.layout),
		.name = LOST_DIR,
		.name_len = sizeof(LOST_DIR) - 1,
		.mode = 0700,
	};
	struct csv_meta *m;
	int err = csv_meta_create(&cfg, &m, eb);

	if (err == 0) {
		err = csv_check_drive(m, c->disk, eb);
	}
	if (err == 0) {
		err = run_op(c, m, &dir);
	}
	if (err == -EEXIST) {
		dir.type = CSV_OP_LOOKUP;
		err = run_op(c, m, &dir);
	}
	for (uint64_t i = 0; err == 0 && i < c->lost_count; i++) {
		char name[32];
		int len = snprintf(name, sizeof(name), "%" PRIu64, c->lost[i]);
		struct csv_op op = {
			.type = CSV_OP_ATTACH,
			.dir = dir.attr.ino,
			.ino = c->lost[i],
			.name = name,
			.name_len = (uint32_t)len,
		};

		err = run_op(c, m, &op);
		if (err == 0) {
			check_did(c, "inode at block %" PRIu64 ": is %s/%s now", c->lost[i],
			          LOST_DIR, name);
		}
	}
	if (err == 0) {
		csv_meta_close(m);
		err = csv_check_drive(m, c->disk, eb);
		err = err == -ESHUTDOWN ? 0 : err;
	}
	csv_meta_destroy(m);
	return err;
}

/* One look at everything. */
static int look(struct check *c, struct csv_check_result *out, struct errbuf *eb)
{
	int err = check_supers(c, eb);

	if (err == 0) {
		err = look_allocate(c);
	}
	if (err == 0) {
		err = open_journal(c, out, eb);
	}
	if (err == 0) {
		walk_all(c);
		if (c->err == 0) {
			walk_lost(c);
		}
		if (c->err == 0) {
			maps_compare(c);
		}
		err = c->err;
	}
	if (err == 0 && c->repair) {
		err = c->disk->flush(c->disk->arg);
	}
	if (err == 0 && c->repair && c->lost_count != 0) {
		err = attach_lost(c, eb);
	}
	return err;
}

static void quietly(void *arg, bool fault, const char *text)
{
	(void)arg;
	(void)fault;
	(void)text;
}

static int look_again(const struct csv_check_disk *disk, struct csv_check_result *out,
                      struct errbuf *eb)
{
	const struct csv_check_cfg cfg = {.say = quietly};
	struct check c = {.disk = disk, .cfg = &cfg};
	int err = look(&c, NULL, eb);

	out->remain = c.faults;
	look_free(&c);
	return err;
}

int csv_check_run(const struct csv_check_disk *disk, const struct csv_check_cfg *cfg,
                  struct csv_check_result *out, struct errbuf *eb)
{
	struct check c = {.disk = disk, .cfg = cfg, .repair = cfg->repair};
	struct csv_check_result result = {0};
	int err = look(&c, &result, eb);

	if (err == 0) {
		result.super = c.super;
		result.faults = c.faults;
		result.remain = c.faults;
		result.files = c.files;
		result.directories = c.directories;
		result.units = csv_layout_units(&c.super.layout);
		result.free_units = result.units - c.units_used;
		for (uint64_t u = 0; u < result.units; u++) {
			result.free_units -= csv_layout_fixed(&c.super.layout, u);
		}
		result.term = c.term;
	}
	look_free(&c);
	if (err == 0 && cfg->repair && result.faults != 0) {
		err = look_again(disk, &result, eb);
	}
	if (err == 0) {
		*out = result;
	} else if (eb != NULL && eb->text[0] == '\0') {
		errbuf_sys(eb, err, "csv");
	}
	return err;
}

int csv_check_live(const struct csv_check_disk *disk, const struct guid *volume, uint64_t *before)
{
	int live = 0;

	for (uint32_t node = 0; node < CSV_NODES_MAX; node++) {
		uint8_t buf[CSV_BLOCK_BYTES];
		struct csv_liveness slot;
		uint64_t now = 0;

		if (disk->read(disk->arg, CSV_LIVENESS_AT + node, 1, buf) != 0) {
			return -EIO;
		}
		if (csv_liveness_decode(buf, volume, node, &slot, NULL) == 0 &&
		    slot.state != CSV_NODE_FREE) {
			now = slot.seq + 1;
		}
		if (now != before[node] && live == 0) {
			live = 1 + (int)node;
		}
		before[node] = now;
	}
	return live;
}
