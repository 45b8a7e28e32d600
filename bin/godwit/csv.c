/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit csv ...`: shared volumes. Here: on their device, while no node uses them. */
#include "bin/godwit/csv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/blk.h"
#include "base/blk_sync.h"
#include "base/clock.h"
#include "base/errbuf.h"
#include "base/guid.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/uring.h"
#include "bin/godwit/godwit.h"
#include "csv/check/csv_check.h"
#include "csv/meta/csv_meta.h"
#include "hv/raw/raw.h"

#define LABEL_MAX 63u
#define EMPTY_BYTES (4ull << 20) /* looked at, at the start; at the end, too */
#define CHUNK_BYTES (64u << 10)
#define LIVE_STEP_NS (500 * NS_PER_MS)
#define LIVE_WAIT_NS (21 * NS_PER_S) /* twice the longest lease */

struct device {
	struct uring *ring; /* owned */
	struct blk *blk;    /* owned */
	struct csv_check_disk disk;
};

static int disk_read(void *arg, uint64_t block, uint32_t count, void *buf)
{
	return blk_sync_read(arg, block * CSV_BLOCK_BYTES, buf, (size_t)count * CSV_BLOCK_BYTES);
}

static int disk_write(void *arg, uint64_t block, uint32_t count, const void *buf)
{
	return blk_sync_write(arg, block * CSV_BLOCK_BYTES, buf, (size_t)count * CSV_BLOCK_BYTES);
}

static int disk_flush(void *arg)
{
	return blk_sync_flush(arg);
}

/* A file does as well if it could be a device; else it is a slip. Open says what is not there. */
static int refuse_no_disk(const char *path, struct errbuf *eb)
{
	struct stat st;
	int err = 0;

	if (stat(path, &st) != 0 || S_ISBLK(st.st_mode) ||
	    (S_ISREG(st.st_mode) && st.st_size % CSV_BLOCK_BYTES == 0)) {
		return 0;
	}
	err = S_ISREG(st.st_mode) ? errbuf_set(eb, -ENOTBLK, "%s is a file of %jd bytes, no disk",
	                                       path, (intmax_t)st.st_size)
	                          : errbuf_set(eb, -ENOTBLK, "%s is no disk", path);
	errbuf_hint(eb, "'ls -l /dev/disk/by-id' lists the disks of this host");
	return err;
}

static int device_open(struct device *d, const char *path, bool read_only, struct errbuf *eb)
{
	const struct uring_cfg ring = {.entries = 32};
	const struct raw_cfg raw = {.path = path, .fd = -1, .read_only = read_only};
	struct blk_info info;
	int err;

	memset(d, 0, sizeof(*d));
	err = refuse_no_disk(path, eb);
	if (err == 0) {
		err = uring_create(&ring, &d->ring, eb);
	}
	if (err != 0) {
		return err;
	}
	err = raw_open(&raw, d->ring, &d->blk, eb);
	if (err != 0) {
		uring_destroy(d->ring);
		errbuf_hint(eb, "'ls -l /dev/disk/by-id' lists the disks of this host");
		return err;
	}
	blk_get_info(d->blk, &info);
	d->disk = (struct csv_check_disk){
		.read = disk_read,
		.write = disk_write,
		.flush = disk_flush,
		.arg = d->blk,
		.size_bytes = info.size_bytes,
	};
	return 0;
}

static int device_close(struct device *d, int err, struct errbuf *eb)
{
	int closed = blk_close(d->blk, err == 0 ? eb : NULL);

	uring_destroy(d->ring);
	return err != 0 ? err : closed;
}

static json_int_t bytes_of(uint64_t units)
{
	return (json_int_t)units * (json_int_t)CSV_UNIT_BYTES;
}

/* Is anything but 0 in these bytes? 1 and where, 0, -errno. */
static int find_data(struct device *d, uint64_t from, uint64_t to, uint64_t *at)
{
	static uint8_t buf[CHUNK_BYTES];

	for (; from < to; from += CHUNK_BYTES) {
		uint32_t len = to - from < CHUNK_BYTES ? (uint32_t)(to - from) : CHUNK_BYTES;
		int err = blk_sync_read(d->blk, from, buf, len);

		if (err != 0) {
			return err;
		}
		for (uint32_t i = 0; i < len; i++) {
			if (buf[i] != 0) {
				*at = from + i;
				return 1;
			}
		}
	}
	return 0;
}

/* Does some node write its liveness slot? */
static int refuse_live(const struct cli_call *call, struct device *d, const struct csv_super *super,
                       struct errbuf *eb)
{
	const struct timespec step = {.tv_nsec = LIVE_STEP_NS};
	uint64_t slots[CSV_NODES_MAX] = {0};
	uint64_t end = clock_now_ns() + LIVE_WAIT_NS;
	int node = csv_refuse_cluster(call, &super->volume, eb);

	if (node != 0) {
		return node;
	}
	node = csv_check_live(&d->disk, &super->volume, slots);
	if (node > 0) {
		godwit_note(call, "node %d used the volume: waiting to see whether it still does",
		            node);
	}
	while (node > 0 && clock_now_ns() < end) {
		int changed;

		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &step, NULL);
		changed = csv_check_live(&d->disk, &super->volume, slots);
		if (changed > 0) {
			errbuf_set(eb, -EBUSY, "node %d uses volume \"%s\"", changed, super->label);
			errbuf_hint(eb, "Stop godwit-csvd on all nodes first.");
			return -EBUSY;
		}
		if (changed < 0) {
			return errbuf_sys(eb, changed, "liveness slots");
		}
	}
	return node < 0 ? errbuf_sys(eb, node, "liveness slots") : 0;
}

/* What is there already: nothing, or what the user gives up. */
static int refuse_used(const struct cli_call *call, struct device *d, struct errbuf *eb)
{
	uint64_t size = d->disk.size_bytes;
	uint64_t head = size < EMPTY_BYTES ? size : EMPTY_BYTES;
	struct csv_super super;
	uint64_t at = 0;
	int err;

	if (csv_check_super(&d->disk, &super, NULL, NULL) == 0) {
		if (cli_flag(call, "force", false)) {
			return refuse_live(call, d, &super, eb);
		}
		errbuf_set(eb, -EEXIST, "it is volume \"%s\" already", super.label);
		errbuf_hint(eb, "--force destroys it and makes a new one.");
		return -EEXIST;
	}
	if (cli_flag(call, "force", false)) {
		return 0;
	}
	err = find_data(d, 0, head, &at);
	if (err == 0) {
		err = find_data(d, size - head, size, &at);
	}
	if (err > 0) {
		err = errbuf_set(eb, -EEXIST, "it is not empty: there is data at byte %" PRIu64,
		                 at);
		errbuf_hint(eb,
		            "Perhaps a file system or a partition table. If it may go: --force.");
		return err;
	}
	return err < 0 ? errbuf_sys(eb, err, "read") : 0;
}

static int check_name(const char *name, struct errbuf *eb)
{
	size_t len = strlen(name);

	if (len == 0 || len > LABEL_MAX || name[0] == '.' || name[0] == '-' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
	            len) {
		return errbuf_set(eb, -EINVAL,
		                  "\"%s\": a name has 1 to %u of letters, digits, . _ - and starts "
		                  "with a letter, digit or _",
		                  name, LABEL_MAX);
	}
	return 0;
}

static int emit(void *arg, uint64_t block, const void *buf)
{
	struct device *d = arg;
	int err = 0;

	/* What the superblock promises is there before it is. */
	if (block == CSV_SUPER_AT) {
		err = disk_flush(d->blk);
	}
	return err != 0 ? err : disk_write(d->blk, block, 1, buf);
}

static int make_volume(const struct cli_call *call, struct device *d, struct csv_super *super,
                       struct errbuf *eb)
{
	const struct csv_layout_cfg cfg = {.size_bytes = d->disk.size_bytes};
	int err;

	memset(super, 0, sizeof(*super));
	super->term = 1;
	super->created_ns = clock_wall_ns();
	memcpy(super->label, cli_arg_at(call, 0), strlen(cli_arg_at(call, 0)));
	guid_random(&super->volume);
	err = csv_layout_make(&cfg, &super->layout, eb);
	if (err == 0) {
		err = refuse_used(call, d, eb);
	}
	if (err != 0) {
		return err;
	}
	err = hash_random(super->hash_key, sizeof(super->hash_key));
	if (err == 0) {
		err = csv_meta_format(super, super->created_ns, emit, d);
	}
	if (err == 0) {
		err = disk_flush(d->blk);
	}
	return err != 0 ? errbuf_sys(eb, err, "write") : 0;
}

/* The cluster, or godwit-csvd of a host that is in none, is to use this volume. */
static int use_volume(const struct cli_call *call, const struct csv_super *super, const char *path,
                      struct errbuf *eb)
{
	char id[GUID_TEXT_SIZE];
	json_t *answer = NULL;
	json_t *body = json_pack("{s:s, s:s, s:s}", "name", super->label, "device", path, "id",
	                         guid_format(&super->volume, id));
	int err = csv_use_call(call, API_POST, "/v1/volumes", body, &answer, eb);

	json_decref(body);
	json_decref(answer);
	return err;
}

static int csv_create_run(const struct cli_call *call, void *arg)
{
	const char *path = cli_text(call, "device");
	char full[GODWIT_PATH_MAX];
	char id[GUID_TEXT_SIZE];
	struct errbuf eb = {0};
	struct csv_super super;
	struct device d;
	int err = check_name(cli_arg_at(call, 0), &eb);

	(void)arg;
	if (err == 0) {
		err = device_open(&d, path, false, &eb);
		if (err == 0) {
			err = make_volume(call, &d, &super, &eb);
			if (err != 0) {
				errbuf_prepend(&eb, "%s", path);
			}
			err = device_close(&d, err, &eb);
		}
	}
	if (err == 0 && csv_in_cluster(call)) {
		err = godwit_file(call, path, full, &eb);
		err = err == 0 ? use_volume(call, &super, full, &eb) : err;
		if (err != 0) {
			errbuf_prepend(&eb, "the volume is made, but the cluster does not use it");
			errbuf_hint(&eb, "godwit csv add %s asks again", path);
		}
	}
	if (err != 0) {
		return godwit_fail(call, err, &eb);
	}
	(void)guid_format(&super.volume, id);

	uint64_t units = csv_layout_units(&super.layout);

	if (cli_flag(call, "json", false)) {
		json_t *json = json_pack("{s:s, s:s, s:s, s:I}", "name", super.label, "id", id,
		                         "device", path, "size_bytes", bytes_of(units));

		godwit_json(call, json);
		json_decref(json);
	} else {
		godwit_put(call, "volume %s, %" PRIu64 " MiB, id %s", super.label, units, id);
		godwit_end(call);
	}
	return CLI_DONE;
}

/* ---- check ---- */

struct report {
	const struct cli_call *call;
	json_t *faults; /* owned with --json */
	json_t *done;   /* owned with --json */
};

static void say(void *arg, bool fault, const char *text)
{
	struct report *r = arg;

	if (r->faults != NULL) {
		(void)json_array_append_new(fault ? r->faults : r->done, json_string(text));
		return;
	}
	godwit_colour(r->call, fault ? COLOUR_BAD : COLOUR_GOOD);
	godwit_put(r->call, "%s", fault ? "fault" : "done ");
	godwit_colour(r->call, COLOUR_NONE);
	godwit_put(r->call, "  %s", text);
	godwit_end(r->call);
}

static void print_result(const struct report *r, const struct csv_check_result *c)
{
	char id[GUID_TEXT_SIZE];

	(void)guid_format(&c->super.volume, id);
	if (r->faults != NULL) {
		json_t *json = json_pack(
			"{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:O}", "name",
			c->super.label, "id", id, "term", (json_int_t)c->term, "files",
			(json_int_t)c->files, "directories", (json_int_t)c->directories,
			"size_bytes", bytes_of(c->units), "free_bytes", bytes_of(c->free_units),
			"replayed", (json_int_t)c->replayed, "remain", (json_int_t)c->remain,
			"faults", r->faults, "done", r->done);

		godwit_json(r->call, json);
		json_decref(json);
		return;
	}
	godwit_put(r->call,
	           "volume %s: %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " of %" PRIu64
	           " MiB free; %" PRIu64 " transactions in the journal",
	           c->super.label, c->files, c->directories, c->free_units, c->units, c->replayed);
	godwit_end(r->call);
	if (c->faults == 0) {
		godwit_put(r->call, "no faults");
	} else {
		godwit_put(r->call, "%" PRIu64 " faults, %" PRIu64 " remain", c->faults, c->remain);
	}
	godwit_end(r->call);
}

static int run_check(struct device *d, struct report *r, struct csv_check_result *out,
                     struct errbuf *eb)
{
	const struct csv_check_cfg cfg = {
		.repair = cli_flag(r->call, "repair", false),
		.say = say,
		.arg = r,
	};
	struct csv_super super;
	int err = csv_check_super(&d->disk, &super, NULL, eb);

	if (err == 0 && cfg.repair) {
		err = refuse_live(r->call, d, &super, eb);
	}
	return err != 0 ? err : csv_check_run(&d->disk, &cfg, out, eb);
}

static int csv_check_cmd(const struct cli_call *call, void *arg)
{
	const char *path = cli_arg_at(call, 0);
	bool repair = cli_flag(call, "repair", false);
	struct report r = {.call = call};
	struct csv_check_result result = {0};
	struct errbuf eb = {0};
	struct device d;
	int status;
	int err;

	(void)arg;
	if (cli_flag(call, "json", false)) {
		r.faults = json_array();
		r.done = json_array();
	}
	err = device_open(&d, path, !repair, &eb);
	if (err == 0) {
		err = run_check(&d, &r, &result, &eb);
		if (err == -EUCLEAN) {
			errbuf_hint(&eb, "is that the volume's device? godwit csv list names them");
		}
		if (err != 0) {
			errbuf_prepend(&eb, "%s", path);
		}
		err = device_close(&d, err, &eb);
	}
	if (err != 0) {
		status = godwit_fail(call, err, &eb);
	} else {
		print_result(&r, &result);
		status = result.remain == 0 ? CLI_DONE : repair ? CLI_PARTLY : CLI_FAILED;
	}
	json_decref(r.faults);
	json_decref(r.done);
	return status;
}

/* ---- remove ---- */

static int put_zeros(struct device *d, uint64_t from, uint64_t to)
{
	static const uint8_t zeros[CHUNK_BYTES];
	int err = 0;

	for (; err == 0 && from < to; from += CHUNK_BYTES) {
		uint64_t len = to - from < CHUNK_BYTES ? to - from : CHUNK_BYTES;

		err = blk_sync_write(d->blk, from, zeros, (size_t)len);
	}
	return err;
}

/* The copies first: with the last of them the volume is gone. Then what "create" looks at. */
static int wipe(struct device *d, const struct csv_super *super)
{
	uint64_t size = d->disk.size_bytes;
	int err = 0;

	for (uint32_t i = CSV_SUPER_COPIES; err == 0 && i > 0; i--) {
		uint64_t at = super->layout.copies[i - 1] * CSV_BLOCK_BYTES;

		err = put_zeros(d, at, at + CSV_BLOCK_BYTES);
	}
	if (err == 0) {
		err = put_zeros(d, 0, EMPTY_BYTES);
	}
	if (err == 0) {
		err = put_zeros(d, size - EMPTY_BYTES, size);
	}
	return err == 0 ? disk_flush(d->blk) : err;
}

static int remove_volume(const struct cli_call *call, struct device *d, struct errbuf *eb)
{
	const char *name = cli_arg_at(call, 0);
	struct csv_super super;
	int err = csv_check_super(&d->disk, &super, NULL, eb);

	if (err != 0) {
		return err;
	}
	if (strcmp(super.label, name) != 0) {
		return errbuf_set(eb, -EINVAL, "it is volume \"%s\", not \"%s\"", super.label,
		                  name);
	}
	if (!cli_flag(call, "yes", false)) {
		errbuf_set(eb, -EPERM, "all files on volume \"%s\" would be lost", super.label);
		errbuf_hint(eb, "If that is meant: --yes.");
		return -EPERM;
	}
	err = refuse_live(call, d, &super, eb);
	if (err == 0) {
		err = wipe(d, &super);
		err = err != 0 ? errbuf_sys(eb, err, "write") : 0;
	}
	return err;
}

static int csv_remove_run(const struct cli_call *call, void *arg)
{
	const char *path = cli_text(call, "device");
	struct errbuf eb = {0};
	struct device d;
	int err = device_open(&d, path, false, &eb);

	(void)arg;
	if (err == 0) {
		err = remove_volume(call, &d, &eb);
		if (err != 0) {
			errbuf_prepend(&eb, "%s", path);
		}
		err = device_close(&d, err, &eb);
	}
	return err != 0 ? godwit_fail(call, err, &eb) : CLI_DONE;
}

/* ---- add ---- */

/* What it is called, and its id, are on the device. */
static int read_super(const char *path, struct csv_super *super, struct errbuf *eb)
{
	struct device d;
	int err = device_open(&d, path, true, eb);

	if (err == 0) {
		err = csv_check_super(&d.disk, super, NULL, eb);
		if (err != 0) {
			errbuf_prepend(eb, "%s", path);
		}
		err = device_close(&d, err, eb);
	}
	return err;
}

static int csv_add_run(const struct cli_call *call, void *arg)
{
	char path[GODWIT_PATH_MAX];
	struct errbuf eb = {0};
	struct csv_super super;
	int err = godwit_file(call, cli_arg_at(call, 0), path, &eb);

	(void)arg;
	if (err == 0) {
		err = read_super(path, &super, &eb);
	}
	if (err == 0) {
		err = use_volume(call, &super, path, &eb);
	}
	return err != 0 ? godwit_fail(call, err, &eb) : CLI_DONE;
}

static const struct cli_arg name_args[] = {
	{.name = "NAME", .summary = "The volume's name."},
	{0},
};

static const struct cli_opt remove_opts[] = {
	{.name = "device",
         .kind = CLI_TEXT,
         .required = true,
         .value = "PATH",
         .source = "file",
         .summary = "The volume's device or file."},
	{.name = "yes", .kind = CLI_FLAG, .summary = "Its files may go."},
	{0},
};

static const struct cli_opt move_opts[] = {
	{.name = "to",
         .kind = CLI_TEXT,
         .required = true,
         .value = "NODE",
         .summary = "The node that is to coordinate it."},
	{0},
};

static const struct cli_arg create_args[] = {
	{.name = "NAME", .summary = "What the volume is to be called."},
	{0},
};

static const struct cli_opt create_opts[] = {
	{.name = "device",
         .kind = CLI_TEXT,
         .required = true,
         .value = "PATH",
         .source = "file",
         .summary = "The block device, or a file, of 64 MiB to 256 TiB."},
	{.name = "force",
         .kind = CLI_FLAG,
         .summary = "Overwrite what is there. A volume that a node uses is refused all the same."},
	{0},
};

static const struct cli_arg check_args[] = {
	{.name = "PATH", .source = "file", .summary = "The volume's device or file."},
	{0},
};

static const struct cli_opt check_opts[] = {
	{.name = "repair",
         .kind = CLI_FLAG,
         .summary = "Put right what is wrong, and say what was done."},
	{0},
};

static const struct cli_cmd cmds[] = {
	{
		.verb = "create",
		.summary = "Make a device a shared volume",
		.details = "Works on the device itself. A device that is not empty is refused: the "
			   "first and the last 4 MiB must be zero. On a node of a cluster all its "
			   "nodes use the volume from then on; the device must have the same path "
			   "on each.",
		.examples =
			"godwit csv create vol1 --device /dev/disk/by-id/wwn-0x5000c500a1b2c3d4",
		.args = create_args,
		.opts = create_opts,
		.run = csv_create_run,
	},
	{
		.verb = "check",
		.summary = "Verify a volume that no node uses, and repair it",
		.details =
			"Reads the journal and all metadata; data of files is not looked at. "
			"Without --repair nothing is written. Files that lost their directory "
			"come into lost+found.\n\n"
			"The exit status is 0 if the volume is in order (now), 1 if it has faults, "
			"3 if faults remain after --repair.",
		.examples = "godwit csv check /dev/disk/by-id/wwn-0x5000c500a1b2c3d4\n"
			    "godwit csv check --repair vol1.img",
		.args = check_args,
		.opts = check_opts,
		.run = csv_check_cmd,
	},
	{
		.verb = "remove",
		.summary = "Make a volume a device again: everything on it is lost",
		.details =
			"Works on the device itself. The name must be that of the volume. A volume "
			"that a node uses is refused: godwit csv evict first.",
		.examples = "godwit csv remove vol1 --device "
			    "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4 --yes",
		.args = name_args,
		.opts = remove_opts,
		.run = csv_remove_run,
	},
	{
		.verb = "list",
		.summary = "The volumes of this node and how they stand",
		.run = csv_list_run,
	},
	{
		.verb = "show",
		.summary = "One volume: state, coordinator, locks, latencies, nodes",
		.details =
			"State is direct, redirected, paused or dead: whether files are read and "
			"written on the device, through another node, wait, or this run of the "
			"node was fenced. What only the coordinator knows is shown on its node.",
		.args = name_args,
		.run = csv_show_run,
	},
	{
		.verb = "move",
		.summary = "Have another node coordinate a volume",
		.details =
			"Asks godwit-csvd(8) of this node, which must be the coordinator now, to "
			"finish and hand over. Who says who coordinates appoints the other node "
			"then. Open files stay open.",
		.examples = "godwit csv move vol1 --to n2",
		.args = name_args,
		.opts = move_opts,
		.run = csv_move_run,
	},
	{
		.verb = "add",
		.summary = "Use a volume, on this host or on all nodes of its cluster",
		.details =
			"godwit-csvd(8) opens it now and whenever it starts. A volume that another "
			"host uses is waited for.",
		.examples = "godwit csv add /dev/disk/by-id/wwn-0x5000c500a1b2c3d4",
		.args = check_args,
		.run = csv_add_run,
	},
	{
		.verb = "evict",
		.summary =
			"Do not use a volume any more, on this host or on all nodes of its cluster",
		.details = "What is on it stays.",
		.args = name_args,
		.run = csv_evict_run,
	},
	{0},
};

const struct cli_noun noun_csv = {
	.name = "csv",
	.summary = "Shared volumes of a cluster",
	.details =
		"A shared volume lies on a device that every node reaches. create, check and "
		"remove "
		"work on the device itself, while nobody uses it; the others ask godwit-csvd(8) of "
		"this node.",
	.cmds = cmds,
};
