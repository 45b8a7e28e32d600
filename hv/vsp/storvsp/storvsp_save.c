/* SPDX-License-Identifier: Apache-2.0 */

/*
 * storvsp_save - the controller's state between hosts. Paused, so nothing is on its way to a disk:
 * what travels is the protocol state, the units' small change and answers for which the guest's
 * ring had no room.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "hv/save/save.h"
#include "hv/vsp/storvsp/storvsp_int.h"

#define STORVSP_SAVE_VERSION 1u

static void storvsp_save_name(const struct vsp *vsp, char name[SAVE_NAME_MAX + 1])
{
	(void)snprintf(name, SAVE_NAME_MAX + 1, "storvsp.%u", vsp->index);
}

static void storvsp_save_channel(struct storvsp_channel *ch, struct save *s)
{
	uint32_t count = 0;
	struct list *l;

	for (l = ch->answers.next; l != &ch->answers; l = l->next) {
		count++;
	}
	save_u32(s, count);
	for (l = ch->answers.next; l != &ch->answers; l = l->next) {
		const struct storvsp_request *r = list_entry(l, struct storvsp_request, link);

		save_u64(s, r->transaction_id);
		save_bytes(s, &r->reply, sizeof(r->reply));
	}
}

void storvsp_save(const struct vsp *vsp, struct save *s)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr): read only */
	struct storvsp *st = (struct storvsp *)(uintptr_t)vsp; /* for the list walk */
	char name[SAVE_NAME_MAX + 1];

	CHECK(st->paused && st->pause_done == NULL);
	storvsp_save_name(vsp, name);
	save_begin(s, name, STORVSP_SAVE_VERSION, true);
	save_u32(s, (uint32_t)st->init);
	save_u16(s, st->version);
	save_u32(s, st->sub_channels);
	for (uint32_t i = 0; i <= st->sub_channels; i++) {
		storvsp_save_channel(&st->channels[i], s);
	}
	for (uint32_t i = 0; i < STORVSP_LUNS_MAX; i++) {
		const struct scsi_lun *lun = &st->units[i].scsi;

		save_bool(s, st->units[i].present);
		if (st->units[i].present) {
			save_bool(s, lun->medium);
			save_bool(s, lun->locked);
			save_u8(s, lun->attention_asc);
			save_u8(s, lun->attention_ascq);
		}
	}
	save_end(s);
}

static void storvsp_load_channel(struct storvsp_channel *ch, struct load *l)
{
	uint32_t count = load_u32_max(l, STORVSP_REQUESTS, "answers");

	for (uint32_t i = 0; i < count && load_error(l) == 0; i++) {
		struct storvsp_request *r = storvsp_request_get(ch);

		if (r == NULL) {
			(void)load_fail(l, -EBADMSG, "more answers than requests");
			return;
		}
		r->transaction_id = load_u64(l);
		load_bytes(l, &r->reply, sizeof(r->reply));
		list_add_tail(&ch->answers, &r->link);
	}
}

static void storvsp_load_unit(struct storvsp_unit *unit, struct load *l)
{
	bool present = load_bool(l);

	if (load_error(l) == 0 && present != unit->present) {
		(void)load_fail(l, -EBADMSG, "other units than the VM has");
	}
	if (present) {
		bool medium = load_bool(l);

		unit->scsi.locked = load_bool(l);
		unit->scsi.attention_asc = load_u8(l);
		unit->scsi.attention_ascq = load_u8(l);
		if (load_error(l) == 0 && medium && unit->blk == NULL && !unit->later) {
			(void)load_fail(l, -EBADMSG, "a medium is missing");
		}
		unit->scsi.medium = medium;
	}
}

int storvsp_load(struct vsp *vsp, struct load *l)
{
	struct storvsp *s = (struct storvsp *)(void *)vsp;
	char name[SAVE_NAME_MAX + 1];
	uint32_t sub_channels;
	int err;

	storvsp_save_name(vsp, name);
	err = load_begin(l, name, STORVSP_SAVE_VERSION);
	if (err != 0) {
		return err;
	}
	s->paused = true;
	s->init = (enum storvsp_init)load_u32_max(l, STORVSP_INIT_DONE, "initialisation state");
	s->version = load_u16(l);
	sub_channels = load_u32_max(l, s->sub_channels_max, "sub-channels");
	/* The bus loads after us and finds them offered. */
	if (load_error(l) == 0) {
		err = storvsp_sub_channels_offer(s, sub_channels);
		if (err != 0) {
			(void)load_fail(l, err, "cannot offer sub-channels");
		}
	}
	for (uint32_t i = 0; i <= sub_channels && load_error(l) == 0; i++) {
		storvsp_load_channel(&s->channels[i], l);
	}
	for (uint32_t i = 0; i < STORVSP_LUNS_MAX && load_error(l) == 0; i++) {
		storvsp_load_unit(&s->units[i], l);
	}
	load_end(l);
	return load_error(l);
}
