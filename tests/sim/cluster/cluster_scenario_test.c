/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cluster_scenario_test FOLDER - plays each FOLDER/NAME.txt: a story in plain text and, below a
 * line "---", the log that it must lead to. README.md there says what can be written.
 * GODWIT_SCENARIO_UPDATE=1 writes the logs anew, to be read before they are committed.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tests/lib/test.h"
#include "tests/sim/cluster/csim.h"

#define STORIES_MAX 200
#define WORDS_MAX 16
#define FILE_MAX (1u << 18)

struct story {
	char path[512];
	char *text;   /* all of the file */
	char *golden; /* behind the line "---"; "" = none yet */
	size_t story_len;
	struct csim *sim;
	struct csim_cfg cfg;
	struct role_policy policies[CSIM_ROLES];
	uint32_t line;
	char *log;
	size_t log_len;
};

static bool update;

_Noreturn static void wrong(const struct story *t, const char *what, const char *word)
{
	if (t->cfg.log != NULL) {
		(void)fflush(t->cfg.log);
		print_message("%s", t->log);
	}
	fail_msg("%s:%u: %s: %s", strrchr(t->path, '/') + 1, t->line, what, word);
	abort(); /* not reached */
}

/* "n2" -> 2, "vm3" -> 3. */
static uint32_t id_of(const struct story *t, const char *word, const char *prefix)
{
	size_t len = strlen(prefix);

	if (strncmp(word, prefix, len) != 0 || word[len] < '1' || word[len] > '9') {
		wrong(t, "expected a name that begins with", prefix);
	}
	return (uint32_t)strtoul(word + len, NULL, 10);
}

static uint64_t number(const struct story *t, const char *word)
{
	char *end;
	uint64_t value = strtoull(word, &end, 10);

	if (end == word || *end != '\0') {
		wrong(t, "expected a number", word);
	}
	return value;
}

/* "key=value": the value; NULL if it is another key. */
static const char *value_of(const char *word, const char *key)
{
	size_t len = strlen(key);

	return strncmp(word, key, len) == 0 && word[len] == '=' ? word + len + 1 : NULL;
}

static void setup_word(struct story *t, const char *word)
{
	const char *v;

	if ((v = value_of(word, "nodes")) != NULL) {
		t->cfg.nodes = (uint32_t)number(t, v);
	} else if ((v = value_of(word, "vms")) != NULL) {
		t->cfg.roles = (uint32_t)number(t, v);
	} else if ((v = value_of(word, "volumes")) != NULL) {
		t->cfg.volumes = (uint32_t)number(t, v);
	} else if ((v = value_of(word, "power")) != NULL) {
		t->cfg.power = strcmp(v, "good") == 0    ? CSIM_POWER_GOOD
		               : strcmp(v, "fails") == 0 ? CSIM_POWER_FAILS
		               : strcmp(v, "hangs") == 0 ? CSIM_POWER_HANGS
		                                         : CSIM_POWER_NONE;
	} else if (strcmp(word, "reservations") == 0) {
		t->cfg.reserves = t->cfg.aborts = true;
	} else if (strcmp(word, "whole") == 0) {
		t->cfg.whole = true;
	} else if ((v = value_of(word, "plain")) != NULL) {
		t->cfg.plain |= role_bit((uint32_t)number(t, v));
	} else if (strcmp(word, "no-abort") == 0) {
		t->cfg.aborts = false;
	} else if (strcmp(word, "no-watchdog") == 0) {
		t->cfg.watchdogs = false;
	} else {
		wrong(t, "unknown setup", word);
	}
}

static void policy_word(struct story *t, struct role_policy *p, const char *word)
{
	const char *v;

	if ((v = value_of(word, "priority")) != NULL) {
		p->priority = strcmp(v, "high") == 0   ? ROLE_PRIORITY_HIGH
		              : strcmp(v, "low") == 0  ? ROLE_PRIORITY_LOW
		              : strcmp(v, "none") == 0 ? ROLE_PRIORITY_NONE
		                                       : ROLE_PRIORITY_MEDIUM;
	} else if ((v = value_of(word, "preferred")) != NULL) {
		p->preferred[0] = id_of(t, v, "n");
	} else if ((v = value_of(word, "only")) != NULL) {
		p->possible |= role_bit(id_of(t, v, "n"));
	} else if ((v = value_of(word, "after")) != NULL) {
		p->after[0] = id_of(t, v, "vm");
	} else if ((v = value_of(word, "group")) != NULL) {
		p->groups[0] = (uint32_t)number(t, v);
	} else if ((v = value_of(word, "patience")) != NULL) {
		p->resiliency_ms = (uint32_t)number(t, v) * 1000;
	} else if ((v = value_of(word, "restarts")) != NULL) {
		p->restart_max = (uint32_t)number(t, v);
	} else if ((v = value_of(word, "failovers")) != NULL) {
		p->failover_max = (uint32_t)number(t, v);
	} else if ((v = value_of(word, "gib")) != NULL) {
		p->memory_bytes = number(t, v) << 30;
	} else if ((v = value_of(word, "volume")) != NULL) {
		p->volumes = role_bit((uint32_t)number(t, v));
	} else if (strcmp(word, "local") == 0) {
		t->cfg.local |= role_bit((uint32_t)(p - t->policies) + 1);
	} else if (strcmp(word, "strict") == 0) {
		p->strict = true;
	} else if (strcmp(word, "waits") == 0) {
		p->patient = true;
	} else if (strcmp(word, "not-isolated") == 0) {
		p->isolated_ok = false;
	} else {
		wrong(t, "unknown policy", word);
	}
}

static struct csim *sim(struct story *t)
{
	if (t->sim == NULL) {
		t->cfg.log = open_memstream(&t->log, &t->log_len);
		assert_non_null(t->cfg.log);
		t->cfg.policies = t->policies;
		t->cfg.idle = true;
		t->sim = csim_create(&t->cfg);
		csim_run(t->sim, 5 * CSIM_S); /* all nodes are there before the VMs start */
		for (uint32_t id = 1; id <= t->cfg.roles; id++) {
			csim_propose(t->sim, (struct role_cmd){.verb = ROLE_CMD_WANT,
			                                       .role = id,
			                                       .arg = {ROLE_WANT_ONLINE}});
		}
	}
	return t->sim;
}

static void run_for(struct story *t, uint64_t ns)
{
	csim_run(sim(t), sim(t)->now_ns + ns);
	if (t->sim->broken != NULL) {
		wrong(t, "broken", t->sim->broken_text);
	}
}

static void expect_node(struct story *t, uint32_t id, const char *word)
{
	const struct role_node *n = role_table_node(sim(t)->truth, id);

	if (strcmp(word, "drained") == 0) {
		assert_int_equal(n->drain, ROLE_DRAIN_DONE);
	} else if (strcmp(word, "quarantined") == 0) {
		assert_true(n->quarantine_until_ms > role_table_now_ms(t->sim->truth));
	} else if (strcmp(word, role_node_state_name(n->state)) != 0) {
		wrong(t, "expected another state, it is", role_node_state_name(n->state));
	}
}

static uint32_t runs(struct story *t, uint32_t role)
{
	uint32_t count = 0;

	for (uint32_t id = 1; id <= t->cfg.nodes; id++) {
		const struct csim_node *n = &t->sim->nodes[id - 1];

		count += n->alive && !n->frozen && n->running[role - 1] && !n->paused[role - 1];
	}
	return count;
}

static void expect(struct story *t, char *const *words, uint32_t count)
{
	if (strcmp(words[1], "settled") == 0) {
		if (!csim_settled(sim(t))) {
			wrong(t, "expected", "settled");
		}
		return;
	}
	if (count < 3) {
		wrong(t, "what is expected of", words[1]);
	}
	if (words[1][0] == 'n') {
		expect_node(t, id_of(t, words[1], "n"), words[2]);
		return;
	}
	uint32_t id = id_of(t, words[1], "vm");
	const struct role *r = role_table_role(sim(t)->truth, id);

	if (strcmp(words[2], "runs") == 0 || strcmp(words[2], "stands") == 0) {
		if (runs(t, id) != (words[2][0] == 'r')) {
			wrong(t, "it does not", words[2]);
		}
		return;
	}
	if (strcmp(words[2], role_state_name(r->state)) != 0) {
		wrong(t, "expected another state, it is", role_state_name(r->state));
	}
	if (count > 4 && id_of(t, words[4], "n") != r->owner.node) {
		wrong(t, "expected it on", words[4]);
	}
}

/* A person's or the leader's command about a role or a node. */
static void command(struct story *t, enum role_verb verb, const char *word, uint64_t arg)
{
	struct role_cmd cmd = {.verb = verb, .arg = {arg}};

	if (word[0] == 'v') {
		cmd.role = id_of(t, word, "vm");
	} else {
		cmd.at.node = id_of(t, word, "n");
		cmd.at.inc = role_table_node(sim(t)->truth, cmd.at.node)->inc;
	}
	csim_propose(sim(t), cmd);
}

static void move(struct story *t, const char *vm, const char *node)
{
	struct role_cmd cmd = {.verb = ROLE_CMD_MIGRATE, .role = id_of(t, vm, "vm")};

	cmd.at.node = id_of(t, node, "n");
	cmd.at.inc = role_table_node(sim(t)->truth, cmd.at.node)->inc;
	csim_propose(sim(t), cmd);
}

/* Faults that are a word and a node, and what ends them. */
static bool fault(struct story *t, char *const *words)
{
	static const struct {
		const char *word;
		void (*fn)(struct csim *s, uint32_t node, bool on);
		bool on;
	} faults[] = {
		{"freeze", csim_freeze, true}, {"thaw", csim_freeze, false},
		{"stall", csim_stall, true},   {"unstall", csim_stall, false},
		{"deafen", csim_deafen, true}, {"undeafen", csim_deafen, false},
		{"hang", csim_stick, true},    {"unhang", csim_stick, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		if (strcmp(words[0], faults[i].word) == 0) {
			faults[i].fn(sim(t), id_of(t, words[1], "n"), faults[i].on);
			return true;
		}
	}
	return false;
}

static bool node_verb(struct story *t, char *const *words, uint32_t count)
{
	uint32_t node = id_of(t, words[1], "n");

	if (strcmp(words[0], "off") == 0) {
		csim_off(sim(t), node);
	} else if (strcmp(words[0], "on") == 0) {
		csim_on(sim(t), node);
	} else if (strcmp(words[0], "crash") == 0) {
		csim_crash(sim(t), node);
	} else if (strcmp(words[0], "cut") == 0) {
		csim_net(sim(t), node, count > 2 ? (uint32_t)number(t, words[2]) : node);
	} else if (strcmp(words[0], "connect") == 0) {
		csim_net(sim(t), node, 0);
	} else if (strcmp(words[0], "late") == 0 && count > 2) {
		csim_lag(sim(t), node, number(t, words[2]) * CSIM_S);
	} else if ((strcmp(words[0], "lose") == 0 || strcmp(words[0], "regain") == 0) &&
	           count > 3) {
		csim_path(sim(t), node, (uint32_t)number(t, words[3]), words[0][0] == 'r');
	} else if (strcmp(words[0], "drain") == 0) {
		command(t, ROLE_CMD_DRAIN, words[1], ROLE_DRAIN_ACTIVE);
	} else if (strcmp(words[0], "resume") == 0) {
		command(t, ROLE_CMD_DRAIN, words[1], ROLE_DRAIN_NONE);
	} else if (strcmp(words[0], "confirm-dead") == 0) {
		command(t, ROLE_CMD_FENCED, words[1], ROLE_PROOF_OPERATOR);
	} else {
		return false;
	}
	return true;
}

static void vm_verb(struct story *t, char *const *words, uint32_t count)
{
	if (strcmp(words[0], "kill") == 0) {
		csim_kill_vm(sim(t), id_of(t, words[1], "vm"));
	} else if (strcmp(words[0], "start") == 0) {
		command(t, ROLE_CMD_WANT, words[1], ROLE_WANT_ONLINE);
	} else if (strcmp(words[0], "stop") == 0) {
		command(t, ROLE_CMD_WANT, words[1], ROLE_WANT_OFFLINE);
	} else if (strcmp(words[0], "move") == 0 && count > 2) {
		move(t, words[1], words[2]);
	} else {
		wrong(t, "unknown command", words[0]);
	}
}

/* Commands of two words or more. */
static void do_words(struct story *t, char *const *words, uint32_t count)
{
	if (strcmp(words[0], "wait") == 0) {
		char *end;
		double seconds = strtod(words[1], &end);

		run_for(t, (uint64_t)(seconds * 1e9));
	} else if (strcmp(words[0], "policy") == 0) {
		struct role_policy *p = &t->policies[id_of(t, words[1], "vm") - 1];

		for (uint32_t i = 2; i < count; i++) {
			policy_word(t, p, words[i]);
		}
	} else if (strcmp(words[0], "expect") == 0) {
		expect(t, words, count);
	} else if (words[1][0] == 'v') {
		vm_verb(t, words, count);
	} else if (!fault(t, words) && !node_verb(t, words, count)) {
		wrong(t, "unknown command", words[0]);
	}
}

static void do_line(struct story *t, char *const *words, uint32_t count)
{
	if (strcmp(words[0], "setup") == 0) {
		for (uint32_t i = 1; i < count; i++) {
			setup_word(t, words[i]);
		}
	} else if (strcmp(words[0], "heal") == 0) {
		csim_heal(sim(t));
	} else if (count > 1) {
		do_words(t, words, count);
	} else {
		wrong(t, "unknown command", words[0]);
	}
}

static void play(struct story *t)
{
	char *copy = strndup(t->text, t->story_len);
	char *rest = copy;
	char *line;

	assert_non_null(copy);
	while ((line = strsep(&rest, "\n")) != NULL) {
		char *words[WORDS_MAX];
		uint32_t count = 0;
		char *word;

		t->line++;
		line[strcspn(line, "#")] = '\0';
		while ((word = strsep(&line, " \t")) != NULL && count < WORDS_MAX) {
			if (*word != '\0') {
				words[count++] = word;
			}
		}
		if (count > 0) {
			do_line(t, words, count);
		}
	}
	free(copy);
}

static void load(struct story *t)
{
	FILE *f = fopen(t->path, "re");

	assert_non_null(f);
	t->text = calloc(1, FILE_MAX);
	assert_non_null(t->text);
	size_t len = fread(t->text, 1, FILE_MAX - 1, f);

	(void)fclose(f);
	char *line = strstr(t->text, "\n---\n");

	t->story_len = line != NULL ? (size_t)(line - t->text) + 1 : len;
	t->golden = line != NULL ? line + 5 : t->text + len;
}

static void compare(struct story *t)
{
	if (update) {
		FILE *f = fopen(t->path, "we");

		assert_non_null(f);
		(void)fprintf(f, "%.*s---\n%s", (int)t->story_len, t->text, t->log);
		assert_int_equal(fclose(f), 0);
		return;
	}
	if (strcmp(t->golden, t->log) != 0) {
		print_message("%s", t->log);
		fail_msg("%s: the log is another one (GODWIT_SCENARIO_UPDATE=1 writes it)",
		         strrchr(t->path, '/') + 1);
	}
}

static void one_story(void **state)
{
	struct story *t = *state;

	load(t);
	t->cfg = (struct csim_cfg){.seed = 1, .nodes = 3, .roles = 2, .volumes = 1};
	t->cfg.watchdogs = true;
	for (uint32_t i = 0; i < CSIM_ROLES; i++) {
		role_policy_default(&t->policies[i]);
		t->policies[i].volumes = 0x1;
	}
	play(t);
	(void)fflush(t->cfg.log);
	compare(t);
	csim_destroy(t->sim);
	(void)fclose(t->cfg.log);
	free(t->log);
	free(t->text);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct story *)a)->path, ((const struct story *)b)->path);
}

int main(int argc, char **argv)
{
	static struct CMUnitTest tests[STORIES_MAX];
	static struct story stories[STORIES_MAX];
	const struct dirent *entry;
	size_t count = 0;
	DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;

	if (dir == NULL) {
		(void)fprintf(stderr, "usage: cluster_scenario_test FOLDER\n");
		return 2;
	}
	update = getenv("GODWIT_SCENARIO_UPDATE") != NULL;
	while ((entry = readdir(dir)) != NULL && count < STORIES_MAX) {
		size_t len = strlen(entry->d_name);

		if (len > 4 && strcmp(entry->d_name + len - 4, ".txt") == 0) {
			struct text path;

			text_init(&path, stories[count].path, sizeof(stories[count].path));
			text_add(&path, "%s/%s", argv[1], entry->d_name);
			count++;
		}
	}
	(void)closedir(dir);
	qsort(stories, count, sizeof(stories[0]), by_name);
	for (size_t i = 0; i < count; i++) {
		tests[i] = (struct CMUnitTest){.name = strrchr(stories[i].path, '/') + 1,
		                               .test_func = one_story,
		                               .initial_state = &stories[i]};
	}
	return count == 0 ? 1 : _cmocka_run_group_tests("scenarios", tests, count, NULL, NULL);
}
