/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/parse.h"
#include "bin/godwitd/cluster_int.h"
#include "bin/godwitd/cluster_quorum_int.h"
#include "bin/godwitd/cluster_work.h"

#define LOOK_NS (5 * NS_PER_S)
#define LOOK_SOON_NS NS_PER_S
#define VOTE_AGAIN_NS (2 * NS_PER_S)
#define VOTE_TIMEOUT_NS (5 * NS_PER_S)
#define VOTE_DELAY_NS NS_PER_S /* the half with the first node of the list is the first to ask */
#define TAG_FILE "witness.seen"
#define TAG_FILE_MAX 80u

/* ---- looking ---- */

const struct db_object *cluster_witness_object(const struct cluster_api *api)
{
	return api->member != NULL ? db_get(member_db(api->member), DB_WITNESS, WITNESS_KEY) : NULL;
}

bool cluster_witness_uuid(const json_t *doc, struct guid *out)
{
	return guid_parse(cluster_text(doc, "uuid"), out) == 0;
}

bool cluster_witness_place(struct quorum_job *job, const struct cluster_api *api, const json_t *doc)
{
	const char *type = cluster_text(doc, "type");

	(void)snprintf(job->path, sizeof(job->path), "%s", cluster_text(doc, "path"));
	job->place = (struct witness_place){.path = job->path,
	                                    .folder = strcmp(type, "share") == 0,
	                                    .head = {.cluster = api->conf.cluster}};
	return (job->place.folder || strcmp(type, "disk") == 0) &&
	       cluster_witness_uuid(doc, &job->place.head.witness);
}

/* ---- the last tag that we saw ---- */

static void tag_path(const struct cluster_quorum *q, char *path, size_t size)
{
	(void)snprintf(path, size, "%.4000s/" TAG_FILE, q->api->dir);
}

/* The file: the witness's uuid and the sequence, in one line. */
static void tag_load(struct cluster_quorum *q)
{
	char path[CLUSTER_PATH_MAX];
	char *text = NULL;
	size_t len = 0;
	uint64_t tag;

	tag_path(q, path, sizeof(path));
	if (fs_read(path, TAG_FILE_MAX, &text, &len, NULL) != 0) {
		return;
	}

	char *save = NULL;
	const char *uuid = strtok_r(text, " \n", &save);
	const char *number = strtok_r(NULL, " \n", &save);

	if (uuid != NULL && number != NULL && guid_parse(uuid, &q->tag_of) == 0 &&
	    parse_u64(number, 0, UINT64_MAX, &tag, NULL) == 0) {
		q->tag = tag;
	} else {
		q->tag_of = (struct guid){{0}};
		log_warn(CLUSTER_TAG,
		         "damaged, an older copy of the witness would not be noticed path=%s",
		         path);
	}
	free(text);
}

static uint64_t tag_known(struct cluster_quorum *q, const struct guid *witness)
{
	if (guid_is_nil(&q->tag_of)) {
		tag_load(q);
	}
	return guid_equal(&q->tag_of, witness) ? q->tag : 0;
}

/* Durable before it counts. Returns 0; -errno. */
static int tag_note(struct cluster_quorum *q, const struct guid *witness, uint64_t tag,
                    struct errbuf *eb)
{
	char path[CLUSTER_PATH_MAX];
	char guid[GUID_TEXT_SIZE];
	char line[TAG_FILE_MAX];
	int err;

	if (guid_equal(&q->tag_of, witness) && q->tag >= tag) {
		return 0;
	}
	tag_path(q, path, sizeof(path));
	(void)snprintf(line, sizeof(line), "%s %llu\n", guid_format(witness, guid),
	               (unsigned long long)tag);
	err = fs_write(path, line, strlen(line), 0600, eb);
	if (err == 0) {
		q->tag_of = *witness;
		q->tag = tag;
	}
	return err;
}

/* ---- is it there? ---- */

static int run_look(void *arg, struct errbuf *eb)
{
	struct quorum_job *job = arg;

	return witness_file_check(&job->place, &job->last, eb);
}

static void on_looked(void *arg, int err, const struct errbuf *eb)
{
	struct quorum_job *job = arg;
	struct cluster_quorum *q = job->q;

	job->running = false;
	q->look_next_ns = clock_now_ns() + (err == 0 ? LOOK_NS : LOOK_SOON_NS);
	if (err != 0 && strcmp(q->look_eb.text, eb->text) != 0) {
		log_warn(CLUSTER_TAG, "the witness cannot be reached text=\"%s\"", eb->text);
	} else if (err == 0 && q->look_eb.text[0] != '\0') {
		log_info(CLUSTER_TAG, "the witness can be reached again");
	}
	q->seen = (struct guid){{0}};
	q->look_eb = *eb;
	if (err == 0) {
		q->look_eb = (struct errbuf){0};
		err = tag_note(q, &job->place.head.witness, job->last, &q->look_eb);
	}
	if (err == 0) {
		q->seen = job->place.head.witness;
	}
	if (!q->api->stopped) {
		loop_timer_arm(q->api->tick, 0);
	}
}

static void quorum_look(struct cluster_quorum *q)
{
	const struct db_object *o = cluster_witness_object(q->api);

	if (o == NULL) {
		q->seen = (struct guid){{0}};
		q->look_eb = (struct errbuf){0};
		q->look_next_ns = 0;
	} else if (!q->look.running && clock_now_ns() >= q->look_next_ns &&
	           cluster_witness_place(&q->look, q->api, o->doc)) {
		q->look.last = tag_known(q, &q->look.place.head.witness);
		q->look.running =
			cluster_work_start(q->api->works, run_look, on_looked, &q->look) == 0;
	}
}

/* ---- asking for the vote ---- */

static int run_ask(void *arg, struct errbuf *eb)
{
	struct quorum_job *job = arg;

	return witness_file_vote(&job->place, &job->claim, VOTE_TIMEOUT_NS, eb);
}

static void on_asked(void *arg, int err, const struct errbuf *asked)
{
	struct quorum_job *job = arg;
	struct cluster_quorum *q = job->q;
	struct errbuf why = *asked;
	const struct errbuf *eb = &why;

	job->running = false;
	if (err == 0) {
		err = tag_note(q, &job->place.head.witness, job->claim.seen, &why);
	}
	q->ask_next_ns = clock_now_ns() + VOTE_AGAIN_NS;
	if (err != 0) {
		if (strcmp(q->ask_eb.text, eb->text) != 0) {
			log_warn(CLUSTER_TAG, "the witness does not vote for us text=\"%s\"",
			         eb->text);
		}
		q->ask_eb = *eb;
		return;
	}
	q->ask_eb = (struct errbuf){0};
	log_info(CLUSTER_TAG, "the witness votes for us epoch=%llu",
	         (unsigned long long)job->claim.epoch);
	if (!q->api->stopped && q->api->member != NULL) {
		member_grant(q->api->member, job->key, false);
	}
}

/* Who we are, in the words of the witness. */
static void claim_of(const struct view *view, uint32_t nodeid, struct witness_claim *claim)
{
	*claim = (struct witness_claim){.nodeid = nodeid,
	                                .last_epoch = view->members[view->best].hello.last_epoch};
	guid_random(&claim->id);
	for (uint32_t i = 0; i < view->count; i++) {
		const struct view_member *m = &view->members[i];
		uint64_t top;

		if (!m->said || m->skipped) {
			continue;
		}
		top = m->hello.promised > m->hello.last_epoch ? m->hello.promised
		                                              : m->hello.last_epoch;
		claim->epoch = top + 1 > claim->epoch ? top + 1 : claim->epoch;
		if (m->votes == 0 || claim->count == WITNESS_NODES_MAX) {
			continue;
		}
		claim->nodes[claim->count++] = m->peer.nodeid;
		if (m->in_sync) { /* to the front */
			claim->nodes[claim->count - 1] = claim->nodes[claim->synced];
			claim->nodes[claim->synced++] = m->peer.nodeid;
		}
	}
}

/* The half with the first node of the list asks at once, so that it is no lottery. */
static bool ask_now(const struct cluster_quorum *q, const struct view *view, uint64_t now_ns)
{
	uint32_t first = UINT32_MAX;

	for (uint32_t i = 0; i < q->api->conf.count; i++) {
		if (q->api->conf.nodes[i].votes != 0 && q->api->conf.nodes[i].nodeid < first) {
			first = q->api->conf.nodes[i].nodeid;
		}
	}
	return view_find(view, first) != NULL || now_ns - q->half_since_ns >= VOTE_DELAY_NS;
}

static void quorum_ask(struct cluster_quorum *q)
{
	const struct view *view = member_view(q->api->member);
	const struct db_object *o = cluster_witness_object(q->api);
	uint64_t now_ns = clock_now_ns();
	uint64_t key;

	if (view->state != VIEW_MINORITY || !view->half || view->witness || o == NULL) {
		if (view->state == VIEW_PRIMARY) {
			q->ask_eb = (struct errbuf){0};
			q->half_key = 0;
		}
		return;
	}
	key = view_key(view);
	if (key != q->half_key) {
		q->half_key = key;
		q->half_since_ns = now_ns;
		q->ask_next_ns = 0;
	}
	if (view->leader != q->api->conf.nodeid || q->ask.running || now_ns < q->ask_next_ns ||
	    !ask_now(q, view, now_ns) || !cluster_witness_place(&q->ask, q->api, o->doc)) {
		return;
	}
	claim_of(view, q->api->conf.nodeid, &q->ask.claim);
	q->ask.claim.seen = tag_known(q, &q->ask.place.head.witness);
	q->ask.key = key;
	q->ask.running = cluster_work_start(q->api->works, run_ask, on_asked, &q->ask) == 0;
}

void cluster_witness_tick(struct cluster_quorum *q)
{
	quorum_look(q);
	quorum_ask(q);
}
