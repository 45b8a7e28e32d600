/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BIN_GODWITD_ASKED_CHANGE_H
#define BIN_GODWITD_ASKED_CHANGE_H

/*
 * asked_change - requests that change one named thing of the cluster database, and are answered
 * with its name when the change is in the log. Thread: the loop's.
 */

#include <stdbool.h>

#include "base/api/server.h"
#include "cluster/db/db.h"

#define ASKED_CHANGES_MAX 16u

struct asked_changes;
struct db_cmd;
struct errbuf;
struct member;

/* A request that waits for the log. */
struct asked_change {
	const struct asked_changes *all;
	struct api_req *req; /* owned until answered; NULL = nobody waits */
	bool used;
	char name[DB_KEY_MAX + 1];
};

/* Those of one kind. Zeroed but for what is said of the kind. */
struct asked_changes {
	const char *look; /* hint when nobody knows whether it was done; NULL: none */
	/* Text of a precondition that did not hold any more. */
	void (*taken)(const char *name, struct errbuf *eb);
	struct asked_change slots[ASKED_CHANGES_MAX];
};

/* asked_in_cluster() - is there a member? If not the request is answered; @hint may be NULL. */
bool asked_in_cluster(const struct member *m, struct api_req *req, const char *hint);

/* asked_change_begin() - @cmd is ended and freed here, the request answered, now or later. */
enum api_then asked_change_begin(struct asked_changes *all, struct member *m, struct api_req *req,
                                 const char *name, struct db_cmd *cmd);

/* asked_changes_stop() - answer those who wait. @m: NULL: it has gone, nothing comes any more. */
void asked_changes_stop(struct asked_changes *all, const struct member *m);

#endif
