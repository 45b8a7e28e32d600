/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/worker/worker.h"
#include "hv/worker/worker_int.h"

#define WORKER_CONFIG_BYTES_MAX (1u << 20)

/* A descriptor number that this process really has; close-on-exec from now on. */
static int worker_fd_get(const struct json_at *at, const char *key, bool optional, int *out,
                         struct errbuf *eb)
{
	int64_t fd = -1;
	int err = optional ? json_opt_i64(at, key, -1, INT32_MAX, &fd, eb)
	                   : json_get_i64(at, key, 0, INT32_MAX, &fd, eb);

	if (err == 0 && fd >= 0 && fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0) {
		err = json_error(at, eb, -EINVAL, "%s: descriptor %lld is not open", key,
		                 (long long)fd);
	}
	if (err == 0) {
		*out = (int)fd;
	}
	return err;
}

static int worker_fd_element(const struct json_at *array, size_t i, int *out, struct errbuf *eb)
{
	struct json_at at = json_element(array, i);
	int64_t fd = -1;
	int err = json_as_i64(&at, -1, INT32_MAX, &fd, eb);

	if (err == 0 && fd >= 0 && fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0) {
		err = json_error(&at, eb, -EINVAL, "descriptor %lld is not open", (long long)fd);
	}
	if (err == 0) {
		*out = (int)fd;
	}
	return err;
}

static int worker_disks_get(const struct json_at *fds, struct worker *w, struct errbuf *eb)
{
	struct json_at disks;
	int err = json_get_array(fds, "disks", VM_DISKS_MAX, &disks, eb);

	if (err == 0 && json_array_size(disks.value) != w->vm.disk_count) {
		err = json_error(&disks, eb, -EINVAL, "%zu entries for %u disks",
		                 json_array_size(disks.value), w->vm.disk_count);
	}
	for (uint32_t i = 0; err == 0 && i < w->vm.disk_count; i++) {
		struct json_at files = json_element(&disks, i);

		err = json_as_array(&files, WORKER_DISK_FILES_MAX, eb);
		for (uint32_t k = 0; err == 0 && k < json_array_size(files.value); k++) {
			err = worker_fd_element(&files, k, &w->fds.disks[i][k], eb);
			w->fds.disk_files[i] = k + 1;
		}
	}
	return err;
}

static int worker_direct_get(const struct json_at *fds, struct worker *w, struct errbuf *eb)
{
	struct json_at list;
	int err = json_opt(fds, "direct", &list, eb);

	if (err != 0 || list.value == NULL) {
		return err;
	}
	err = json_as_array(&list, w->vm.disk_count, eb);
	for (uint32_t i = 0; err == 0 && i < json_array_size(list.value); i++) {
		err = worker_fd_element(&list, i, &w->fds.direct[i], eb);
	}
	return err;
}

static int worker_tap_get(const struct json_at *at, struct worker_tap *tap, struct errbuf *eb)
{
	static const char *const known[] = {"queues", "mtu_bytes", "link"};
	struct json_at queues;
	uint64_t mtu = 0;
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	if (err == 0) {
		err = json_get_u64(at, "mtu_bytes", 0, NETVSP_MTU_MAX, &mtu, eb);
	}
	if (err == 0) {
		err = json_get_bool(at, "link", &tap->link, eb);
	}
	if (err == 0) {
		err = json_get_array(at, "queues", NETVSP_QUEUES_MAX, &queues, eb);
	}
	tap->mtu_bytes = (uint32_t)mtu;
	for (uint32_t i = 0; err == 0 && i < json_array_size(queues.value); i++) {
		err = worker_fd_element(&queues, i, &tap->fds[i], eb);
		if (err == 0 && tap->fds[i] < 0) {
			err = json_error(&queues, eb, -EINVAL, "queue %u has no descriptor", i);
		}
		tap->count += err == 0;
	}
	return err;
}

static int worker_taps_get(const struct json_at *fds, struct worker *w, struct errbuf *eb)
{
	struct json_at taps;
	int err = json_get_array(fds, "taps", VM_NICS_MAX, &taps, eb);

	if (err == 0 && json_array_size(taps.value) != w->vm.nic_count) {
		err = json_error(&taps, eb, -EINVAL, "%zu entries for %u adapters",
		                 json_array_size(taps.value), w->vm.nic_count);
	}
	for (uint32_t i = 0; err == 0 && i < w->vm.nic_count; i++) {
		struct json_at tap = json_element(&taps, i);

		err = worker_tap_get(&tap, &w->fds.taps[i], eb);
	}
	return err;
}

static int worker_fds_get(const struct json_at *root, struct worker *w, struct errbuf *eb)
{
	struct json_at fds;
	int err = json_get_object(root, "fds", &fds, eb);

	if (err == 0) {
		err = worker_fd_get(&fds, "kvm", false, &w->fds.kvm, eb);
	}
	if (err == 0) {
		err = worker_fd_get(&fds, "kernel", false, &w->fds.kernel, eb);
	}
	if (err == 0) {
		err = worker_fd_get(&fds, "initrd", true, &w->fds.initrd, eb);
	}
	if (err == 0) {
		err = worker_fd_get(&fds, "console_log", true, &w->fds.console_log, eb);
	}
	if (err == 0) {
		err = worker_fd_get(&fds, "end", true, &w->fds.end, eb);
	}
	if (err == 0) {
		err = worker_disks_get(&fds, w, eb);
	}
	if (err == 0) {
		err = worker_direct_get(&fds, w, eb);
	}
	return err != 0 ? err : worker_taps_get(&fds, w, eb);
}

static int worker_text_read(int fd, char **out, size_t *len)
{
	struct stat st;
	char *buf;

	if (fstat(fd, &st) != 0) {
		return -errno;
	}
	if (st.st_size <= 0 || st.st_size > (off_t)WORKER_CONFIG_BYTES_MAX) {
		return -EFBIG;
	}
	buf = gw_malloc((size_t)st.st_size);
	if (buf == NULL) {
		return -ENOMEM;
	}
	if (pread(fd, buf, (size_t)st.st_size, 0) != st.st_size) {
		free(buf);
		return -EIO;
	}
	*out = buf;
	*len = (size_t)st.st_size;
	return 0;
}

int worker_config_read(struct worker *w, int config_fd, struct errbuf *eb)
{
	static const char *const known[] = {"vm", "fds", "arriving", "bare"};
	json_t *json = NULL;
	char *text = NULL;
	size_t len = 0;
	int err;

	w->fds.kvm = w->fds.kernel = w->fds.initrd = w->fds.console_log = w->fds.end = -1;
	memset(w->fds.disks, 0xff, sizeof(w->fds.disks));
	memset(w->fds.direct, 0xff, sizeof(w->fds.direct));
	err = worker_text_read(config_fd, &text, &len);
	if (err != 0) {
		return errbuf_sys(eb, err, "cannot read the configuration from descriptor %d",
		                  config_fd);
	}
	err = json_parse(text, len, NULL, &json, eb);
	free(text);
	if (err == 0) {
		struct json_at root = json_root(json, "");

		err = json_check_members(&root, known, ARRAY_LEN(known), eb);
		if (err == 0) {
			err = json_opt_bool(&root, "arriving", &w->arriving, eb);
		}
		if (err == 0) {
			err = json_opt_bool(&root, "bare", &w->bare, eb);
		}
		if (err == 0) {
			err = vm_config_decode(json_object_get(json, "vm"), &w->vm, eb);
		}
		if (err == 0) {
			err = worker_fds_get(&root, w, eb);
		}
	}
	json_decref(json);
	return err;
}

static void worker_fd_close(int *fd)
{
	if (*fd >= 0) {
		(void)close(*fd);
		*fd = -1;
	}
}

void worker_fds_close(struct worker *w)
{
	worker_fd_close(&w->fds.kvm);
	worker_fd_close(&w->fds.kernel);
	worker_fd_close(&w->fds.initrd);
	worker_fd_close(&w->fds.console_log);
	worker_fd_close(&w->fds.end);
	for (uint32_t i = 0; i < VM_DISKS_MAX; i++) {
		worker_fd_close(&w->fds.direct[i]);
		for (uint32_t k = 0; k < WORKER_DISK_FILES_MAX; k++) {
			worker_fd_close(&w->fds.disks[i][k]);
		}
	}
	for (uint32_t i = 0; i < VM_NICS_MAX; i++) {
		while (w->fds.taps[i].count != 0) {
			worker_fd_close(&w->fds.taps[i].fds[--w->fds.taps[i].count]);
		}
	}
}
