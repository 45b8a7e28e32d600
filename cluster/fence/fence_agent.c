/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/fence/fence_agent.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/errbuf.h"
#include "base/run.h"
#include "base/text.h"

#define OUTPUT_MAX 512u /* what an agent says about a failure; the first line says it */
#define PATH_SIZE 320u
#define STATUS_OFF 2
#define SCRUB_MIN 3u /* shorter values are words that any text may have */

int fence_agent_check(const struct fence_agent *agent, struct errbuf *eb)
{
	size_t len = strlen(agent->name);

	/* It becomes a path: nothing but an agent's name may stand there. */
	if (len >= FENCE_AGENT_NAME_MAX || strncmp(agent->name, "fence_", 6) != 0 ||
	    strspn(agent->name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len) {
		return errbuf_set(eb, -EINVAL, "fence device: \"%.64s\" is no name of an agent",
		                  agent->name);
	}
	if (strlen(agent->options) >= FENCE_AGENT_OPTIONS_MAX) {
		return errbuf_set(eb, -EINVAL, "fence device: more than %u bytes of options",
		                  FENCE_AGENT_OPTIONS_MAX - 1);
	}
	for (const char *line = agent->options; *line != '\0';) {
		size_t bytes = strcspn(line, "\n");
		size_t key = strcspn(line, "=\n");

		if (key == 0 || key == bytes) {
			return errbuf_set(eb, -EINVAL, "fence device: an option is not key=value");
		}
		if ((key == 6 && memcmp(line, "action", 6) == 0) ||
		    (key == 6 && memcmp(line, "option", 6) == 0)) {
			return errbuf_set(eb, -EINVAL, "fence device: \"%.6s\" is not an option",
			                  line);
		}
		line += bytes + (line[bytes] == '\n');
	}
	return 0;
}

/* How much of the start of @text is a value, or, at the end of the text, the start of one. */
static size_t value_at(const char *options, const char *text)
{
	size_t left = strlen(text);
	size_t found = 0;

	for (const char *line = options; *line != '\0';) {
		size_t bytes = strcspn(line, "\n");
		size_t key = strcspn(line, "=\n");
		size_t len = key < bytes ? bytes - key - 1 : 0;
		size_t seen = len < left ? len : left;

		if (len >= SCRUB_MIN && seen >= SCRUB_MIN && seen > found &&
		    memcmp(text, line + key + 1, seen) == 0) {
			found = seen;
		}
		line += bytes + (line[bytes] == '\n');
	}
	return found;
}

void fence_agent_scrub(const char *options, char *text)
{
	size_t blot = 0; /* how many bytes from here on are some value's */

	/* What is blotted is behind what is still looked at: values may overlap. */
	for (char *at = text; *at != '\0'; at++) {
		size_t len = value_at(options, at);

		blot = len > blot ? len : blot;
		if (blot > 0) {
			*at = '*';
			blot--;
		}
	}
}

/* One run. Returns the exit status; -errno, with a text. */
static int ask(const struct fence_agent *agent, const char *action, uint64_t deadline_ns,
               struct errbuf *eb)
{
	char input[FENCE_AGENT_OPTIONS_MAX + 32];
	char said[OUTPUT_MAX];
	char path[PATH_SIZE];
	const char *argv[] = {path, NULL};
	uint64_t now_ns = clock_now_ns();
	struct run_input in = {.bytes = input, .stop = agent->stop};
	struct text text;

	text_init(&text, path, sizeof(path));
	text_add(&text, "%s/%s", agent->dir, agent->name);
	text_init(&text, input, sizeof(input));
	text_add(&text, "%s%saction=%s\n", agent->options,
	         agent->options[0] != '\0' && agent->options[strlen(agent->options) - 1] != '\n'
	                 ? "\n"
	                 : "",
	         action);
	if (now_ns >= deadline_ns) {
		return errbuf_set(eb, -ETIMEDOUT, "%s %s: no time left", agent->name, action);
	}

	in.len = strlen(input);

	int status = run_capture_stop(argv, &in, deadline_ns - now_ns, said, sizeof(said));

	explicit_bzero(input, sizeof(input));
	if (status < 0) {
		errbuf_sys(eb, status, "%s %s", agent->name, action);
		if (status == -ENOENT) {
			errbuf_hint(eb, "install the package fence-agents");
		}
	} else if (status != 0 && status != STATUS_OFF) {
		char clean[OUTPUT_MAX];

		fence_agent_scrub(agent->options, said); /* before anything of it is cut */
		text_init(&text, clean, sizeof(clean));
		text_add_clean(&text, said, strcspn(said, "\n"));
		errbuf_set(eb, -EIO, "%s %s: exit status %d: %s", agent->name, action, status,
		           clean);
	}
	return status;
}

static int power(const struct fence_agent *agent, uint64_t deadline_ns, enum fence_power *out,
                 struct errbuf *eb)
{
	int status = ask(agent, "status", deadline_ns, eb);

	if (status < 0) {
		return status;
	}
	if (status != 0 && status != STATUS_OFF) {
		return -EIO;
	}
	*out = status == STATUS_OFF ? FENCE_POWER_OFF : FENCE_POWER_ON;
	return 0;
}

int fence_agent_status(const struct fence_agent *agent, enum fence_power *out, struct errbuf *eb)
{
	int err = fence_agent_check(agent, eb);

	return err < 0 ? err : power(agent, clock_now_ns() + agent->timeout_ns, out, eb);
}

int fence_agent_off(const struct fence_agent *agent, struct errbuf *eb)
{
	uint64_t deadline_ns = clock_now_ns() + agent->timeout_ns;
	enum fence_power now = FENCE_POWER_ON;
	int err = fence_agent_check(agent, eb);

	if (err < 0) {
		return err;
	}
	int status = ask(agent, "off", deadline_ns, eb);

	if (status < 0) {
		return status;
	}
	if (status != 0) {
		return -EIO; /* also of 2: nothing was switched */
	}
	for (;;) {
		err = power(agent, deadline_ns, &now, eb);
		if (err == 0 && now == FENCE_POWER_OFF) {
			return 0;
		}
		if (err == -ECANCELED || clock_now_ns() + agent->poll_ns >= deadline_ns) {
			if (err < 0) {
				return err;
			}
			errbuf_set(eb, -EBUSY, "%s: asked to switch off, but it is still on",
			           agent->name);
			errbuf_hint(eb, "does the device belong to this node, and may this user "
			                "switch it?");
			return -EBUSY;
		}
		(void)poll(NULL, 0, (int)(agent->poll_ns / NS_PER_MS)); /* devices take seconds */
	}
}
