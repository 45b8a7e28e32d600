/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit vm create` and `vm set`: from options to a definition. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/json.h"
#include "base/parse.h"
#include "bin/godwit/vm.h"

#define PART_MAX 1200
#define WAIT_PRESET_NS (240 * NS_PER_S)

/* "key=value" or "key" of a comma list. */
struct part {
	const char *key;
	const char *value; /* NULL: there is no '=' */
};

/* The next part of the list at *@at, which is cut in place. Returns false at the end. */
static bool part_next(char **at, struct part *out)
{
	char *part = *at;
	char *comma;
	char *equals;

	if (part == NULL || *part == '\0') {
		return false;
	}
	comma = strchr(part, ',');
	if (comma != NULL) {
		*comma = '\0';
	}
	*at = comma != NULL ? comma + 1 : NULL;
	equals = strchr(part, '=');
	if (equals != NULL) {
		*equals = '\0';
	}
	*out = (struct part){.key = part, .value = equals != NULL ? equals + 1 : NULL};
	return true;
}

#define DISK_FORM                                                                                \
	"PATH[,size=SIZE][,format=vhdx-dynamic|vhdx-fixed|raw][,parent=PATH][,sectors=512|512e|" \
	"4kn][,read-only]"

/* One part of --disk as a member of @disk, or of @create, what is to be made. */
static int disk_part(const struct cli_call *call, const struct part *p, json_t *disk,
                     json_t *create, struct errbuf *eb)
{
	char file[GODWIT_PATH_MAX];
	uint64_t size = 0;
	int err = 0;

	if (strcmp(p->key, "read-only") == 0 && p->value == NULL) {
		(void)json_object_set_new(disk, "read_only", json_true());
		return 0;
	}
	if (p->value == NULL) {
		return -ENOENT;
	}
	if (strcmp(p->key, "format") == 0) {
		bool raw = strcmp(p->value, "raw") == 0;

		/* What exists is "vhdx", whatever kind it is. */
		(void)json_object_set_new(
			disk, "format",
			json_string(raw || strncmp(p->value, "vhdx-", 5) != 0 ? p->value : "vhdx"));
		(void)json_object_set_new(create, "format", json_string(p->value));
	} else if (strcmp(p->key, "size") == 0) {
		err = parse_size(p->value, 1, INT64_MAX, &size, eb);
		if (err != 0) {
			errbuf_prepend(eb, "--disk: size");
		}
		(void)json_object_set_new(create, "size_bytes", json_integer((json_int_t)size));
	} else if (strcmp(p->key, "parent") == 0) {
		err = godwit_file(call, p->value, file, eb);
		(void)json_object_set_new(create, "parent", json_string(file));
	} else if (strcmp(p->key, "sectors") == 0) {
		(void)json_object_set_new(create, "sectors", json_string(p->value));
	} else {
		err = -ENOENT;
	}
	return err;
}

/* --disk DISK_FORM. With size= or parent= the image is made. */
static int disk_add(const struct cli_call *call, json_t *disks, const char *option,
                    struct errbuf *eb)
{
	char text[PART_MAX];
	char file[GODWIT_PATH_MAX];
	char *at = text;
	struct part p;
	json_t *disk = json_object();
	json_t *create = json_object();
	int err = 0;

	if (snprintf(text, sizeof(text), "%s", option) >= (int)sizeof(text)) {
		err = errbuf_set(eb, -EINVAL, "--disk: too long");
	}
	for (bool first = true; err == 0 && part_next(&at, &p); first = false) {
		if (first && p.value == NULL) {
			err = godwit_file(call, p.key, file, eb);
			(void)json_object_set_new(disk, "path", json_string(file));
			continue;
		}
		err = disk_part(call, &p, disk, create, eb);
		if (err == -ENOENT) {
			err = errbuf_set(eb, -EINVAL, "--disk %s: \"%s\" is not understood", option,
			                 p.key);
			errbuf_hint(eb, "write " DISK_FORM);
		}
	}
	if (err == 0 && (json_object_get(create, "size_bytes") != NULL ||
	                 json_object_get(create, "parent") != NULL)) {
		if (strcmp(call->cmd->verb, "create") != 0) {
			err = errbuf_set(eb, -EINVAL, "--disk %s: the image must exist", option);
			errbuf_hint(eb, "godwit disk create makes it");
		} else {
			err = json_object_set(disk, "create", create) == 0 ? 0 : -ENOMEM;
		}
	}
	json_decref(create);
	if (err != 0) {
		json_decref(disk);
		return err;
	}
	return json_array_append_new(disks, disk) == 0 ? 0 : -ENOMEM;
}

static int dvd_add(const struct cli_call *call, json_t *disks, const char *path, struct errbuf *eb)
{
	char file[GODWIT_PATH_MAX];
	int err = godwit_file(call, path, file, eb);
	json_t *dvd = err == 0 ? json_pack("{s:s,s:s}", "kind", "dvd", "path", file) : NULL;

	if (err == 0) {
		err = dvd != NULL && json_array_append_new(disks, dvd) == 0 ? 0 : -ENOMEM;
	}
	return err;
}

/* What stays when an adapter is plugged in elsewhere: the guest sees the same one. */
static json_t *nic_begin(const json_t *old)
{
	static const char *const keys[] = {"id", "mac"};
	json_t *nic = json_object();

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		json_t *value = json_object_get(old, keys[i]);

		if (value != NULL) {
			(void)json_object_set(nic, keys[i], value);
		}
	}
	return nic;
}

/* --nic [switch=NAME][,mac=..][,vlan=N]. @old: the adapter it replaces; NULL = none. */
static int nic_add(json_t *nics, const char *option, const json_t *old, struct errbuf *eb)
{
	char text[PART_MAX];
	char *at = text;
	struct part p;
	json_t *nic = nic_begin(old);
	int err = 0;

	(void)snprintf(text, sizeof(text), "%s", option);
	while (err == 0 && part_next(&at, &p)) {
		uint64_t vlan = 0;

		if (p.value != NULL &&
		    (strcmp(p.key, "switch") == 0 || strcmp(p.key, "mac") == 0)) {
			(void)json_object_set_new(nic, p.key, json_string(p.value));
		} else if (p.value != NULL && strcmp(p.key, "vlan") == 0) {
			err = parse_u64(p.value, 0, 4094, &vlan, eb);
			(void)json_object_set_new(nic, p.key, json_integer((json_int_t)vlan));
		} else {
			err = errbuf_set(eb, -EINVAL, "--nic %s: \"%s\" is not understood", option,
			                 p.key);
			errbuf_hint(eb, "write switch=NAME[,mac=00:15:5d:01:02:03][,vlan=N]");
		}
	}
	if (err != 0) {
		json_decref(nic);
		return err;
	}
	return json_array_append_new(nics, nic) == 0 ? 0 : -ENOMEM;
}

/* Given once, the list replaces the one there was; the first takes the first's place, and so on. */
static int nics_add(const struct cli_call *call, const json_t *old, json_t *body, struct errbuf *eb)
{
	const json_t *were = json_object_get(old, "nics");
	const char *first = cli_text_at(call, "nic", 0);
	json_t *nics;
	const char *text;
	int err = 0;

	if (first == NULL) {
		return 0;
	}
	nics = json_array();
	if (strcmp(first, "none") != 0 || cli_text_at(call, "nic", 1) != NULL) {
		for (uint32_t i = 0; err == 0 && (text = cli_text_at(call, "nic", i)) != NULL;
		     i++) {
			err = nic_add(nics, text, json_array_get(were, i), eb);
		}
	}
	if (err == 0) {
		err = json_object_set(body, "nics", nics) == 0 ? 0 : -ENOMEM;
	}
	json_decref(nics);
	return err;
}

static int devices_add(const struct cli_call *call, const json_t *old, json_t *body,
                       struct errbuf *eb)
{
	json_t *disks = json_array();
	const char *text;
	int err = 0;

	for (uint32_t i = 0; err == 0 && (text = cli_text_at(call, "disk", i)) != NULL; i++) {
		err = disk_add(call, disks, text, eb);
	}
	for (uint32_t i = 0; err == 0 && (text = cli_text_at(call, "iso", i)) != NULL; i++) {
		err = dvd_add(call, disks, text, eb);
	}
	/* Given once, the list replaces the one there was. */
	if (err == 0 && json_array_size(disks) != 0) {
		err = json_object_set(body, "disks", disks) == 0 ? 0 : -ENOMEM;
	}
	json_decref(disks);
	return err != 0 ? err : nics_add(call, old, body, eb);
}

static int boot_add(const struct cli_call *call, json_t *body, const json_t *old, struct errbuf *eb)
{
	static const char *const keys[] = {"append", "kernel", "initrd"}; /* the first is no file */
	json_t *boot = old != NULL ? json_deep_copy(old) : json_object();
	char file[GODWIT_PATH_MAX];
	bool changed = false;
	int err = 0;

	for (size_t i = 0; err == 0 && i < ARRAY_LEN(keys); i++) {
		const char *text = cli_text(call, keys[i]);

		if (text != NULL && i > 0 && text[0] != '\0') {
			err = godwit_file(call, text, file, eb);
			text = file;
		}
		if (text != NULL) {
			changed = true;
			(void)json_object_set_new(boot, keys[i], json_string(text));
		}
	}
	if (err == 0 && changed) {
		(void)json_object_set(body, "boot", boot);
	}
	json_decref(boot);
	return err;
}

/* What the options say, as members of a definition. @old: what there is, for set. */
static int body_make(const struct cli_call *call, const json_t *old, json_t *body,
                     struct errbuf *eb)
{
	const char *restart = cli_text(call, "restart");
	int err;

	if (cli_given(call, "memory")) {
		(void)json_object_set_new(body, "memory_bytes",
		                          json_integer((json_int_t)cli_number(call, "memory", 0)));
	}
	if (cli_given(call, "cpus")) {
		(void)json_object_set_new(body, "cpus",
		                          json_integer((json_int_t)cli_number(call, "cpus", 1)));
	}
	if (restart != NULL) {
		(void)json_object_set_new(body, "restart", json_string(restart));
	}
	err = boot_add(call, body, json_object_get(old, "boot"), eb);
	return err != 0 ? err : devices_add(call, old, body, eb);
}

/* "n1,n2" as ["n1","n2"]. */
static int list_add(json_t *ha, const char *key, const char *text, struct errbuf *eb)
{
	char copy[PART_MAX];
	char *at = copy;
	struct part p;
	json_t *array = text != NULL ? json_array() : NULL;

	if (text == NULL) {
		return 0;
	}
	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy)) {
		json_decref(array);
		return errbuf_set(eb, -EINVAL, "--%s: too long", key);
	}
	while (part_next(&at, &p)) {
		(void)json_array_append_new(array, json_string(p.key));
	}
	return json_object_set_new(ha, key, array) == 0 ? 0 : -ENOMEM;
}

/* "restart-within=15s", "prefer-waiting[=TIME]" or "none". */
static int objective_add(json_t *ha, const char *text, struct errbuf *eb)
{
	static const char within[] = "restart-within=";
	static const char wait[] = "prefer-waiting";
	uint64_t ns = WAIT_PRESET_NS;
	const char *key = "wait_ms";
	int err = 0;

	if (strncmp(text, within, sizeof(within) - 1) == 0) {
		key = "restart_within_ms";
		err = parse_duration(text + sizeof(within) - 1, NS_PER_S, 3600 * NS_PER_S, &ns, eb);
	} else if (strncmp(text, wait, sizeof(wait) - 1) == 0 && text[sizeof(wait) - 1] == '=') {
		err = parse_duration(text + sizeof(wait), NS_PER_S, 86400 * NS_PER_S, &ns, eb);
	} else if (strcmp(text, "none") == 0) {
		ns = 0;
	} else if (strcmp(text, wait) != 0) {
		err = errbuf_set(eb, -EINVAL, "'%s' is no objective", text);
		errbuf_hint(eb, "restart-within=TIME, prefer-waiting[=TIME] or none");
	}
	if (err != 0) {
		errbuf_prepend(eb, "--objective");
		return err;
	}
	/* The other one goes. */
	(void)json_object_set_new(ha, "restart_within_ms", json_null());
	(void)json_object_set_new(ha, "wait_ms", json_null());
	return ns == 0 || json_object_set_new(ha, key,
	                                      json_integer((json_int_t)(ns / NS_PER_MS))) == 0
	               ? 0
	               : -ENOMEM;
}

static int after_add(json_t *ha, const char *text, struct errbuf *eb)
{
	return strcmp(text, "none") == 0 ? json_object_set_new(ha, "after", json_null())
	                                 : list_add(ha, "after", text, eb);
}

/* What the cluster does with it, as far as it was said: into @ha. */
static int ha_fill(const struct cli_call *call, json_t *ha, struct errbuf *eb)
{
	int err;

	if (cli_text(call, "priority") != NULL) {
		(void)json_object_set_new(ha, "priority", json_string(cli_text(call, "priority")));
	}
	if (cli_text(call, "fallback") != NULL) {
		(void)json_object_set_new(ha, "fallback", json_string(cli_text(call, "fallback")));
	}
	if (cli_given(call, "blackout-limit")) {
		(void)json_object_set_new(
			ha, "blackout_max_ns",
			json_integer((json_int_t)cli_number(call, "blackout-limit", 0)));
	}
	err = list_add(ha, "preferred", cli_text(call, "preferred"), eb);
	if (err == 0) {
		err = list_add(ha, "possible", cli_text(call, "possible"), eb);
	}
	if (err == 0 && cli_given(call, "start-after")) {
		err = after_add(ha, cli_text(call, "start-after"), eb);
	}
	if (err == 0 && cli_given(call, "objective")) {
		err = objective_add(ha, cli_text(call, "objective"), eb);
	}
	return err == 0 && cli_given(call, "anti-affinity")
	               ? list_add(ha, "groups", cli_text(call, "anti-affinity"), eb)
	               : err;
}

/* What goes with --ha. @is_ha: it is the cluster's; @known: already. */
static int ha_add(const struct cli_call *call, bool is_ha, bool known, json_t *body,
                  struct errbuf *eb)
{
	json_t *ha = json_object();
	int err = ha != NULL ? ha_fill(call, ha, eb) : -ENOMEM;

	if (err == 0 && !is_ha && json_object_size(ha) != 0) {
		err = errbuf_set(eb, -EINVAL, "--%s goes with --ha",
		                 json_object_iter_key(json_object_iter(ha)));
	}
	if (err == 0 && is_ha && (!known || json_object_size(ha) != 0)) {
		return json_object_set_new(body, "ha", ha) == 0 ? 0 : -ENOMEM;
	}
	json_decref(ha);
	return err;
}

static void created_say(const struct cli_call *call, bool dry_run)
{
	const char *name = cli_arg_at(call, 0);
	const char *kernel = cli_text(call, "kernel");

	if (kernel == NULL || kernel[0] == '\0') {
		godwit_note(
			call,
			"%s %s, but it has no kernel and cannot start: there is no firmware that "
			"would find one on its disks",
			name, dry_run ? "could be created" : "is defined");
		godwit_note(call, "give it one: godwit vm set %s --kernel PATH [--initrd PATH]",
		            name);
	} else if (dry_run) {
		godwit_note(call, "%s could be created", name);
	} else {
		godwit_note(call, "%s is defined; start it with: godwit vm start %s", name, name);
	}
}

int vm_create_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	json_t *body = json_pack("{s:s}", "name", cli_arg_at(call, 0));
	bool dry_run = cli_flag(call, "dry-run", false);
	json_t *vm = NULL;
	int err = body != NULL ? body_make(call, NULL, body, &eb) : -ENOMEM;

	(void)arg;
	if (err == 0) {
		err = ha_add(call, cli_flag(call, "ha", false), false, body, &eb);
	}
	if (err == 0) {
		err = godwit_call(call, API_POST, dry_run ? "/v1/vms?dry_run" : "/v1/vms", body,
		                  &vm, &eb);
	}
	json_decref(body);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, vm);
	} else {
		created_say(call, dry_run);
	}
	json_decref(vm);
	return CLI_DONE;
}

int vm_set_run(const struct cli_call *call, void *arg)
{
	struct errbuf eb = {0};
	int status = CLI_FAILED;
	json_t *body = json_object();
	json_t *now = NULL;
	json_t *vm = NULL;
	char *path = api_path("/v1/vms/{name}", cli_arg_at(call, 0));
	int err = path != NULL && body != NULL ? godwit_get(call, path, &now, &eb) : -ENOMEM;

	(void)arg;
	if (err == 0) {
		err = body_make(call, json_object_get(now, "definition"), body, &eb);
	}
	if (err == 0) {
		bool is_ha = json_object_get(now, "ha") != NULL;

		err = ha_add(call, is_ha, is_ha, body, &eb);
	}
	if (err == 0 && json_object_size(body) == 0) {
		err = errbuf_set(&eb, -EINVAL, "what shall be changed?");
		errbuf_hint(&eb, "'godwit vm set --help' lists the options");
		status = CLI_USAGE;
	}
	if (err == 0) {
		err = godwit_call(call, API_PATCH, path, body, &vm, &eb);
	}
	free(path);
	json_decref(body);
	json_decref(now);
	if (err < 0) {
		int failed = godwit_fail(call, err, &eb);

		return status == CLI_USAGE ? status : failed;
	}
	if (cli_flag(call, "json", false)) {
		godwit_json(call, vm);
	} else {
		godwit_note(call, "%s is changed", cli_arg_at(call, 0));
	}
	json_decref(vm);
	return CLI_DONE;
}

#define DEFINE_OPTS                                                                             \
	{.name = "cpus",                                                                        \
	 .kind = CLI_UINT,                                                                      \
	 .value = "N",                                                                          \
	 .summary = "Virtual processors, 1 to 64."},                                            \
		{.name = "disk",                                                                \
	         .kind = CLI_TEXT,                                                              \
	         .repeat = true,                                                                \
	         .value = "PATH[,KEY=VALUE]...",                                                \
	         .source = "file",                                                              \
	         .summary = "A disk: an image file or a block device; several may be given. "   \
	                    "read-only: the guest cannot write. size=SIZE or parent=PATH: the " \
	                    "image is made, with format= and sectors= as godwit disk create "   \
	                    "knows them."},                                                     \
		{.name = "iso",                                                                 \
	         .kind = CLI_TEXT,                                                              \
	         .repeat = true,                                                                \
	         .value = "PATH",                                                               \
	         .source = "file",                                                              \
	         .summary = "A DVD drive with this image in it."},                              \
		{.name = "nic",                                                                 \
	         .kind = CLI_TEXT,                                                              \
	         .repeat = true,                                                                \
	         .value = "switch=NAME[,mac=..][,vlan=N]",                                      \
	         .source = "nic",                                                               \
	         .summary = "A network adapter, plugged into a switch; several may be "         \
	                    "given. With set they replace those there were, in order; the "     \
	                    "address stays. none: no adapter."},                                \
		{.name = "kernel",                                                              \
	         .kind = CLI_TEXT,                                                              \
	         .value = "PATH",                                                               \
	         .source = "file",                                                              \
	         .summary = "Linux kernel to boot: bzImage, or ELF with a PVH entry."},         \
		{.name = "initrd",                                                              \
	         .kind = CLI_TEXT,                                                              \
	         .value = "PATH",                                                               \
	         .source = "file",                                                              \
	         .summary = "Its initial RAM disk."},                                           \
		{.name = "append",                                                              \
	         .kind = CLI_TEXT,                                                              \
	         .value = "TEXT",                                                               \
	         .summary = "Its command line."},                                               \
	{                                                                                       \
		.name = "restart", .kind = CLI_CHOICE, .value = "never|on-failure|always",      \
		.summary = "Start it again by itself when it has ended like this."              \
	}

#define HA_OPTS                                                                                   \
	{.name = "priority",                                                                      \
	 .kind = CLI_CHOICE,                                                                      \
	 .value = "high|medium|low|none",                                                         \
	 .summary = "Of a VM of the cluster: which VMs are started first after a failure; none: " \
	            "not by itself."},                                                            \
		{.name = "preferred",                                                             \
	         .kind = CLI_TEXT,                                                                \
	         .value = "NODE[,NODE]...",                                                       \
	         .summary = "Of a VM of the cluster: where it runs if it can, best first."},      \
		{.name = "possible",                                                              \
	         .kind = CLI_TEXT,                                                                \
	         .value = "NODE[,NODE]...",                                                       \
	         .summary =                                                                       \
	                 "Of a VM of the cluster: where it may run at all; else on every node."}, \
		{.name = "anti-affinity",                                                         \
	         .kind = CLI_TEXT,                                                                \
	         .value = "GROUP[,GROUP]...",                                                     \
	         .summary = "Of a VM of the cluster: kept apart from other VMs of the group."},   \
		{.name = "start-after",                                                           \
	         .kind = CLI_TEXT,                                                                \
	         .value = "VM[,VM]...",                                                           \
	         .source = "vm",                                                                  \
	         .summary = "Of a VM of the cluster: when it is to start it waits until these "   \
	                    "run, if they are to run as well, at most 5 minutes; at most 4, no "  \
	                    "circles. none: for nobody."},                                        \
		{.name = "objective",                                                             \
	         .kind = CLI_TEXT,                                                                \
	         .value = "restart-within=TIME|prefer-waiting[=TIME]|none",                       \
	         .summary = "Of a VM of the cluster whose node is lost: it is to run elsewhere "  \
	                    "within that time (vm show says whether that can be held, and how "   \
	                    "much is left), or it waits for the node to come back, 4 minutes if " \
	                    "no time is given, before it is started elsewhere."},                 \
		{.name = "blackout-limit",                                                        \
	         .kind = CLI_DURATION,                                                            \
	         .value = "TIME",                                                                 \
	         .summary = "Of a VM of the cluster: when it is moved it must not stand still "   \
	                    "for longer; else what "                                              \
	                    "cluster set says."},                                                 \
	{                                                                                         \
		.name = "fallback", .kind = CLI_CHOICE, .value = "live|quick|shutdown|leave",     \
		.summary = "Of a VM of the cluster: what emptying its node does with it if it "   \
			   "cannot be moved alive: "                                              \
			   "see godwit node drain. live if it is not given."                      \
	}

const struct cli_opt vm_create_opts[] = {
	{.name = "memory",
         .kind = CLI_SIZE,
         .value = "SIZE",
         .preset = "512M",
         .summary = "Memory, a multiple of 2 MiB."},
	DEFINE_OPTS,
	{.name = "ha",
         .kind = CLI_FLAG,
         .summary = "The cluster runs it: it is started on a node that the cluster chooses, and "
                    "again elsewhere when that node fails. Its disks and its kernel must be "
                    "reachable under the same paths on every node."},
	HA_OPTS,
	{.name = "dry-run", .kind = CLI_FLAG, .summary = "Only check; show what would be defined."},
	{0},
};

const struct cli_opt vm_set_opts[] = {
	{.name = "memory",
         .kind = CLI_SIZE,
         .value = "SIZE",
         .summary = "Memory, a multiple of 2 MiB."},
	DEFINE_OPTS,
	HA_OPTS,
	{0},
};
