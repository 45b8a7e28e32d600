/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blk_sync.h"
#include "base/errbuf.h"
#include "base/fault.h"
#include "hv/vhdx/tool_int.h"
#include "hv/vhdx/vhdx_int.h"

int vhdx_tool_open(struct vhdx_tool *t, const struct vhdx_files *files, const char *path,
                   bool read_only, bool ignore_log, struct errbuf *eb)
{
	int close_err;
	int err;

	*t = (struct vhdx_tool){0};
	err = files->open(path, read_only, &t->file, eb, files->arg);
	if (err != 0) {
		return err;
	}
	t->v = gw_calloc(1, sizeof(*t->v));
	if (t->v == NULL) {
		err = errbuf_sys(eb, -ENOMEM, "open");
	} else {
		t->v->file = t->file;
		t->v->read_only = read_only;
		t->v->ignore_log = ignore_log;
		err = vhdx_load(t->v, eb);
	}
	if (err != 0) {
		errbuf_prepend(eb, "vhdx");
		close_err = vhdx_tool_close(t, NULL);
		(void)close_err;
	}
	return err;
}

int vhdx_tool_close(struct vhdx_tool *t, struct errbuf *eb)
{
	int err = blk_close(t->file, eb);

	if (t->v != NULL) {
		vhdx_space_fini(&t->v->space);
		free(t->v->locator);
		free(t->v->bat);
		free(t->v->bat_dirty);
		free(t->v);
	}
	*t = (struct vhdx_tool){0};
	return err;
}

/* ---- transactions ---- */

int vhdx_txn_init(struct vhdx_txn *txn, struct vhdx *v, struct errbuf *eb)
{
	*txn = (struct vhdx_txn){
		.v = v, .data = gw_malloc((size_t)VHDX_TXN_PAGES_MAX * VHDX_LOG_SECTOR_BYTES)};
	return txn->data == NULL ? errbuf_sys(eb, -ENOMEM, "change") : 0;
}

void vhdx_txn_fini(struct vhdx_txn *txn)
{
	free(txn->data);
	*txn = (struct vhdx_txn){0};
}

/* The copy of the page at @offset; read if it is new. */
static int txn_page(struct vhdx_txn *txn, uint64_t offset, uint8_t **out, struct errbuf *eb)
{
	uint32_t i = 0;
	int err;

	while (i < txn->count && txn->page[i].offset != offset) {
		i++;
	}
	*out = txn->data + (size_t)i * VHDX_LOG_SECTOR_BYTES;
	if (i < txn->count) {
		return 0;
	}
	if (i == VHDX_TXN_PAGES_MAX) {
		return errbuf_set(eb, -E2BIG, "more than %u pages to change at once",
		                  VHDX_TXN_PAGES_MAX);
	}
	err = blk_sync_read(txn->v->file, offset, *out, VHDX_LOG_SECTOR_BYTES);
	if (err != 0) {
		return errbuf_sys(eb, err, "read at 0x%llx", (unsigned long long)offset);
	}
	txn->page[i] = (struct vhdx_log_page){.offset = offset, .data = *out};
	txn->count++;
	return 0;
}

int vhdx_txn_edit(struct vhdx_txn *txn, uint64_t offset, const void *buf, size_t len,
                  struct errbuf *eb)
{
	const uint8_t *from = buf;

	while (len > 0) {
		size_t within = (size_t)(offset % VHDX_LOG_SECTOR_BYTES);
		size_t part = VHDX_LOG_SECTOR_BYTES - within;
		uint8_t *page;
		int err = txn_page(txn, offset - within, &page, eb);

		if (err != 0) {
			return err;
		}
		part = len < part ? len : part;
		memcpy(page + within, from, part);
		from += part;
		offset += part;
		len -= part;
	}
	return 0;
}

/* Entry, header, in place, header: each durable before the next. */
static int txn_write(struct vhdx_txn *txn, uint8_t *entry, struct vhdx_header *header,
                     struct errbuf *eb)
{
	struct vhdx *v = txn->v;
	int err = blk_sync_flush(v->file); /* what the pages speak of */

	if (err == 0) {
		err = blk_sync_write(v->file, v->header.log_offset, entry,
		                     vhdx_log_entry_bytes(txn->count));
	}
	if (err == 0) {
		err = blk_sync_flush(v->file);
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "log: write");
	}
	err = vhdx_header_store(v, header, eb);
	if (err != 0) {
		return err;
	}
	for (uint32_t i = 0; err == 0 && i < txn->count; i++) {
		err = blk_sync_write(v->file, txn->page[i].offset, txn->page[i].data,
		                     VHDX_LOG_SECTOR_BYTES);
	}
	if (err == 0) {
		err = blk_sync_flush(v->file);
	}
	if (err != 0) {
		return errbuf_sys(eb, err, "write");
	}
	header->log = (struct guid){0};
	return vhdx_header_store(v, header, eb);
}

int vhdx_txn_commit(struct vhdx_txn *txn, const struct guid *data_write, struct errbuf *eb)
{
	struct vhdx *v = txn->v;
	struct vhdx_header header = v->header;
	const struct vhdx_log_entry head = {
		.sequence = 1, .flushed_size = v->file_bytes, .last_size = v->file_bytes};
	uint8_t *entry;
	int err;

	if (txn->count == 0) {
		return 0;
	}
	entry = gw_malloc(vhdx_log_entry_bytes(txn->count));
	if (entry == NULL) {
		return errbuf_sys(eb, -ENOMEM, "log");
	}
	guid_random(&header.log);
	guid_random(&header.file_write);
	if (data_write != NULL) {
		header.data_write = *data_write;
	}
	vhdx_log_entry_encode(&head, &header.log, txn->page, txn->count, entry);
	err = txn_write(txn, entry, &header, eb);
	free(entry);
	return err;
}
