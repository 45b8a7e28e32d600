/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit disk ...`: disk images. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fmt.h"
#include "base/json.h"
#include "base/ui/ui.h"
#include "bin/godwit/godwit.h"

#define WHAT_MAX 300 /* of a line that shows progress */

static uint64_t number_of(const json_t *json, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(json, key));

	return v > 0 ? (uint64_t)v : 0;
}

/* ---- show ---- */

static void add_size(struct ui_details *d, const char *title, const json_t *disk, const char *key)
{
	char text[FMT_MAX];

	ui_details_add(d, title, UI_PLAIN, "%s (%" PRIu64 " bytes)",
	               fmt_size(number_of(disk, key), text), number_of(disk, key));
}

static void add_parents(struct ui_details *d, const json_t *disk)
{
	size_t i;
	json_t *parent;

	json_array_foreach(json_object_get(disk, "parents"), i, parent)
	{
		ui_details_add(d, i == 0 ? "Parents" : "", UI_PLAIN, "%s",
		               json_string_value(parent));
	}
	if (godwit_text(disk, "parents_error")[0] != '\0') {
		ui_details_add(d, "Error", UI_BAD, "%s", godwit_text(disk, "parents_error"));
	}
}

static void add_vhdx(struct ui_details *d, const json_t *disk)
{
	char block[FMT_MAX];

	ui_details_add(d, "Blocks", UI_PLAIN, "%" PRIu64 " of %" PRIu64 " with data, %s each",
	               number_of(disk, "blocks_present"), number_of(disk, "blocks"),
	               fmt_size(number_of(disk, "block_bytes"), block));
	ui_details_add(d, "Disk id", UI_PLAIN, "%s", godwit_text(disk, "disk_id"));
	ui_details_add(d, "Made by", UI_PLAIN, "%s", godwit_text(disk, "creator"));
	if (json_is_false(json_object_get(disk, "clean"))) {
		ui_details_add(d, "State", UI_WARN,
		               "was not closed cleanly; the next use replays its log");
	}
	add_parents(d, disk);
}

static int print_show(const struct cli_call *call, const json_t *disk)
{
	bool vhdx = strcmp(godwit_text(disk, "format"), "vhdx") == 0;
	struct ui_style style;
	struct ui_buf buf = {0};
	struct ui_details *d;
	struct errbuf eb = {0};
	int err = ui_details_create(&d);

	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	ui_details_add(d, "Path", UI_PLAIN, "%s", godwit_text(disk, "path"));
	ui_details_add(d, "Format", UI_PLAIN, "%s%s%s", godwit_text(disk, "format"),
	               vhdx ? ", " : "", godwit_text(disk, "kind"));
	add_size(d, "Size", disk, "size_bytes");
	add_size(d, "File", disk, "file_bytes");
	add_size(d, "Storage used", disk, "allocated_bytes");
	ui_details_add(d, "Sectors", UI_PLAIN, "%" PRIu64 " bytes, physical %" PRIu64,
	               number_of(disk, "logical_sector_bytes"),
	               number_of(disk, "physical_sector_bytes"));
	if (vhdx) {
		add_vhdx(d, disk);
	}
	ui_style_get(fileno(call->out), &style);
	ui_details_render(d, &style, &buf);
	ui_details_destroy(d);
	return godwit_print(call, &buf);
}

/* The result of an operation, which is what show would print. */
static int print_result(const struct cli_call *call, const json_t *disk, const char *verb)
{
	char size[FMT_MAX];

	if (cli_flag(call, "json", false)) {
		godwit_json(call, disk);
	} else {
		godwit_note(call, "%s %s: %s, %s", godwit_text(disk, "path"), verb,
		            fmt_size(number_of(disk, "size_bytes"), size),
		            godwit_text(disk, strcmp(godwit_text(disk, "format"), "vhdx") == 0
		                                      ? "kind"
		                                      : "format"));
	}
	return CLI_DONE;
}

static int disk_show_run(const struct cli_call *call, void *arg)
{
	char file[GODWIT_PATH_MAX];
	struct errbuf eb = {0};
	json_t *disk = NULL;
	char *path = NULL;
	int status;
	int err = godwit_file(call, cli_arg_at(call, 0), file, &eb);

	(void)arg;
	if (err == 0) {
		path = api_path("/v1/disks/{path}", file);
		err = path != NULL ? godwit_get(call, path, &disk, &eb) : -ENOMEM;
	}
	free(path);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	status = CLI_DONE;
	if (cli_flag(call, "json", false)) {
		godwit_json(call, disk);
	} else {
		status = print_show(call, disk);
	}
	json_decref(disk);
	return status;
}

/* ---- operations ---- */

/*
 * POST @body (taken) to @pattern with the path of the command line in it.
 * Returns 0 with *out, or the error.
 */
static int operate(const struct cli_call *call, const char *pattern, const char *doing,
                   struct json_build *body, json_t **out, struct errbuf *eb)
{
	const char *name = cli_arg_at(call, 0);
	char file[GODWIT_PATH_MAX];
	char what[WHAT_MAX];
	json_t *request = NULL;
	char *path = NULL;
	int err = json_build_end(body, &request);

	*out = NULL;
	if (err == 0) {
		err = godwit_file(call, name, file, eb);
	}
	if (err == 0) {
		path = api_path(pattern, file);
		err = path != NULL ? 0 : -ENOMEM;
	}
	if (err == 0) {
		(void)snprintf(what, sizeof(what), "%s %s", doing, name);
		err = godwit_run(call, path, request, what, out, eb);
	}
	free(path);
	json_decref(request);
	return err;
}

/* A file's path as member @key. */
static int add_file(const struct cli_call *call, struct json_build *body, const char *key,
                    const char *path, struct errbuf *eb)
{
	char file[GODWIT_PATH_MAX];
	int err = godwit_file(call, path, file, eb);

	if (err == 0) {
		json_add_str(body, key, file);
	}
	return err;
}

/* Options that say what a new image is like. */
static void add_shape(const struct cli_call *call, struct json_build *body)
{
	if (cli_given(call, "format")) {
		json_add_str(body, "format", cli_text(call, "format"));
	}
	if (cli_given(call, "sectors")) {
		json_add_str(body, "sectors", cli_text(call, "sectors"));
	}
	if (cli_given(call, "block")) {
		json_add_u64(body, "block_bytes", cli_number(call, "block", 0));
	}
}

static int disk_create_run(const struct cli_call *call, void *arg)
{
	const char *parent = cli_text(call, "parent");
	struct json_build body;
	struct errbuf eb = {0};
	json_t *disk = NULL;
	int err;

	(void)arg;
	json_build_object(&body);
	err = add_file(call, &body, "path", cli_arg_at(call, 0), &eb);
	if (err == 0 && parent != NULL) {
		err = add_file(call, &body, "parent", parent, &eb);
	}
	if (err == 0 && parent == NULL && !cli_given(call, "size")) {
		err = errbuf_set(&eb, -EINVAL, "how large shall it be?");
		errbuf_hint(&eb, "--size 8G; or --parent PATH for a differencing disk");
	}
	if (err < 0) {
		json_decref(body.value);
		return godwit_fail(call, err, &eb);
	}
	if (cli_given(call, "size")) {
		json_add_u64(&body, "size_bytes", cli_number(call, "size", 0));
	}
	add_shape(call, &body);
	err = operate(call, "/v1/disks", "creating", &body, &disk, &eb);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	err = print_result(call, disk, "is made");
	json_decref(disk);
	return err;
}

static int disk_resize_run(const struct cli_call *call, void *arg)
{
	struct json_build body;
	struct errbuf eb = {0};
	json_t *disk = NULL;
	int err;

	(void)arg;
	json_build_object(&body);
	json_add_u64(&body, "size_bytes", cli_number(call, "size", 0));
	json_add_bool(&body, "discard", cli_flag(call, "discard", false));
	err = operate(call, "/v1/disks/{path}/resize", "resizing", &body, &disk, &eb);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	err = print_result(call, disk, "has its new size");
	json_decref(disk);
	return err;
}

static int disk_convert_run(const struct cli_call *call, void *arg)
{
	struct json_build body;
	struct errbuf eb = {0};
	json_t *disk = NULL;
	int err;

	(void)arg;
	json_build_object(&body);
	err = add_file(call, &body, "to", cli_arg_at(call, 1), &eb);
	if (err < 0) {
		json_decref(body.value);
		return godwit_fail(call, err, &eb);
	}
	if (cli_given(call, "from")) {
		json_add_str(&body, "from", cli_text(call, "from"));
	}
	add_shape(call, &body);
	err = operate(call, "/v1/disks/{path}/convert", "converting", &body, &disk, &eb);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	err = print_result(call, disk, "is made");
	json_decref(disk);
	return err;
}

static int disk_merge_run(const struct cli_call *call, void *arg)
{
	struct json_build body;
	struct errbuf eb = {0};
	json_t *disk = NULL;
	int err;

	(void)arg;
	json_build_object(&body);
	err = operate(call, "/v1/disks/{path}/merge", "merging", &body, &disk, &eb);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, disk);
	} else {
		godwit_note(call, "%s has all of %s now, which can be removed",
		            godwit_text(disk, "path"), cli_arg_at(call, 0));
	}
	json_decref(disk);
	return CLI_DONE;
}

/* ---- check ---- */

static enum ui_verdict finding_verdict(const char *finding)
{
	if (strcmp(finding, "note") == 0) {
		return UI_INFO;
	}
	if (strcmp(finding, "repaired") == 0) {
		return UI_OK;
	}
	return strcmp(finding, "repairable") == 0 ? UI_WARNING : UI_FAILED;
}

static int print_check(const struct cli_call *call, const json_t *report)
{
	const char *verdict = godwit_text(report, "verdict");
	const char *hint = "";
	struct ui_style style;
	struct ui_buf buf = {0};
	char unused[FMT_MAX];
	size_t i;
	json_t *finding;

	ui_style_get(fileno(call->out), &style);
	json_array_foreach(json_object_get(report, "findings"), i, finding)
	{
		ui_verdict(&buf, &style, finding_verdict(godwit_text(finding, "finding")),
		           godwit_text(finding, "text"), NULL);
	}
	if (strcmp(verdict, "repairable") == 0) {
		hint = ": godwit disk check --repair mends it";
	} else if (strcmp(verdict, "damaged") == 0) {
		hint = ": only a backup helps";
	}
	ui_buf_addf(&buf, "%s%s; %s of the file unused\n", verdict, hint,
	            fmt_size(number_of(report, "unused_bytes"), unused));
	return godwit_print(call, &buf);
}

static int disk_check_run(const struct cli_call *call, void *arg)
{
	struct json_build body;
	struct errbuf eb = {0};
	json_t *report = NULL;
	const char *verdict;
	int status = CLI_DONE;
	int err;

	(void)arg;
	json_build_object(&body);
	json_add_bool(&body, "repair", cli_flag(call, "repair", false));
	err = operate(call, "/v1/disks/{path}/check", "checking", &body, &report, &eb);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, report);
	} else {
		status = print_check(call, report);
	}
	verdict = godwit_text(report, "verdict");
	if (strcmp(verdict, "ok") != 0 && strcmp(verdict, "repaired") != 0) {
		status = CLI_FAILED;
	}
	json_decref(report);
	return status;
}

/* ---- the table ---- */

static const struct cli_arg one_path[] = {
	{.name = "PATH", .summary = "The image, a file or a block device.", .source = "file"},
	{0},
};

static const struct cli_arg two_paths[] = {
	{.name = "PATH",
         .summary = "The image to be copied, with all its parents.",
         .source = "file"},
	{.name = "TARGET", .summary = "The new image; must not exist.", .source = "file"},
	{0},
};

#define SHAPE_OPTS                                                                                \
	{.name = "format",                                                                        \
	 .kind = CLI_CHOICE,                                                                      \
	 .value = "vhdx-dynamic|vhdx-fixed|raw",                                                  \
	 .summary = "vhdx-dynamic: the file grows as it is written. vhdx-fixed: all of it is "    \
	            "there from the start. raw: byte for byte, without holes taking storage. If " \
	            "not told, names that end in .vhdx or .avhdx are vhdx-dynamic, others raw."}, \
		{.name = "sectors",                                                               \
	         .kind = CLI_CHOICE,                                                              \
	         .value = "512|512e|4kn",                                                         \
	         .summary = "Of a VHDX: what sectors the guest sees. 512e, if not told: 512 "     \
	                    "bytes, and it knows that the storage has 4096. 4kn: 4096 bytes."},   \
	{                                                                                         \
		.name = "block", .kind = CLI_SIZE, .value = "SIZE",                               \
		.summary = "Of a VHDX: by how much it grows, 1M to 256M. 32M if not told, 2M "    \
			   "with a parent."                                                       \
	}

static const struct cli_opt create_opts[] = {
	{.name = "size",
         .kind = CLI_SIZE,
         .value = "SIZE",
         .summary = "Size of the disk; with a parent, if not told, the parent's."},
	{.name = "parent",
         .kind = CLI_TEXT,
         .value = "PATH",
         .source = "file",
         .summary = "Make a differencing disk: it holds what differs from this VHDX, which must "
                    "not change any more."},
	SHAPE_OPTS,
	{0},
};

static const struct cli_opt check_opts[] = {
	{.name = "repair",
         .kind = CLI_FLAG,
         .summary = "Mend what can be mended: replay the log, restore damaged copies."},
	{0},
};

static const struct cli_opt resize_opts[] = {
	{.name = "size",
         .kind = CLI_SIZE,
         .value = "SIZE",
         .required = true,
         .summary = "The new size of the disk."},
	{.name = "discard",
         .kind = CLI_FLAG,
         .summary = "Make it smaller even if there is data beyond the new end, which is lost."},
	{0},
};

static const struct cli_opt convert_opts[] = {
	SHAPE_OPTS,
	{.name = "from",
         .kind = CLI_CHOICE,
         .value = "raw|vhdx",
         .summary = "What PATH is, if its name does not tell."},
	{0},
};

static const struct cli_cmd cmds[] = {
	{.verb = "create",
         .summary = "Make an empty image, or a differencing disk",
         .examples = "godwit disk create /var/lib/godwit/web1.vhdx --size 8G\n"
                     "godwit disk create web2.vhdx --parent debian.vhdx\n"
                     "godwit disk create db.vhdx --size 100G --format vhdx-fixed --sectors 4kn",
         .args = one_path,
         .opts = create_opts,
         .run = disk_create_run},
	{.verb = "show",
         .summary = "Show what an image is: size, format, parents",
         .args = one_path,
         .run = disk_show_run},
	{.verb = "check",
         .summary = "Look at every structure of a VHDX",
         .details = "The exit status is 1 if something is wrong that was not repaired.",
         .args = one_path,
         .opts = check_opts,
         .run = disk_check_run},
	{.verb = "resize",
         .summary = "Give an image another size",
         .details = "What is added reads as zeros; partitions and file systems are the guest's "
                    "to grow. Shrinking is refused where there is data.",
         .examples = "godwit disk resize web1.vhdx --size 20G",
         .args = one_path,
         .opts = resize_opts,
         .run = disk_resize_run},
	{.verb = "convert",
         .summary = "Copy an image into another format",
         .details = "The original stays. A differencing disk is copied with all its parents, into "
                    "one image that needs none.",
         .examples = "godwit disk convert debian.raw debian.vhdx\n"
                     "godwit disk convert web1.vhdx web1-fixed.vhdx --format vhdx-fixed",
         .args = two_paths,
         .opts = convert_opts,
         .run = disk_convert_run},
	{.verb = "merge",
         .summary = "Write a differencing disk into its parent",
         .details = "The parent then holds what the child showed; the child can be removed. Other "
                    "children of the same parent cannot be used any more. If it is interrupted, "
                    "the child still shows the same: merge again.",
         .args = one_path,
         .run = disk_merge_run},
	{0},
};

const struct cli_noun noun_disk = {
	.name = "disk",
	.summary = "Disk images: VHDX and raw",
	.details =
		"The images are files of the host whose API is asked; relative paths are completed "
		"with the folder one is in. Images that a VM uses are refused. Interrupting a "
		"command interrupts the work; what was to be made is then not there, what was to "
		"be changed is as it was, or can be changed again.",
	.cmds = cmds,
};
