/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/fence_dev.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errbuf.h"
#include "base/fault.h"
#include "base/hash.h"
#include "base/text.h"
#include "base/tls_pki.h"
#include "base/tls_seal.h"
#include "cluster/fence/fence.h"

#define KEY_MAX 64u
#define VALUE_MAX 512u
#define LABEL_MAX 192u

int fence_dev_name_check(const char *name, struct errbuf *eb)
{
	size_t len = strlen(name);

	if (len == 0 || len >= FENCE_DEV_NAME_MAX || !isalnum((unsigned char)name[0]) ||
	    strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") !=
	            len) {
		return errbuf_set(eb, -EINVAL,
		                  "\"%.64s\" cannot be a fence device's name: letters, digits, "
		                  ". _ -, at most %u",
		                  name, FENCE_DEV_NAME_MAX - 1);
	}
	return 0;
}

/* One key and value as the agent will read them: nothing may begin another line. */
static int option_check(const struct json_at *at, const char *key, const json_t *value,
                        struct errbuf *eb)
{
	const char *text = json_string_value(value);
	size_t len = strlen(key);

	if (len == 0 || len >= KEY_MAX ||
	    strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_-") != len) {
		return json_error(at, eb, -EINVAL, "\"%.64s\" is no option of an agent", key);
	}
	if (text == NULL || json_string_length(value) != strlen(text) || strlen(text) > VALUE_MAX ||
	    strpbrk(text, "\r\n") != NULL) {
		/* The value is not shown: it may be a secret. */
		return json_error(at, eb, -EINVAL, "%.64s: not one line of at most %u bytes", key,
		                  VALUE_MAX);
	}
	return 0;
}

static int options_check(json_t *map, const char *name, struct errbuf *eb)
{
	const struct json_at at = json_root(map, name);
	const char *key;
	json_t *value;
	int err = 0;

	if (!json_is_object(map) || json_object_size(map) > FENCE_DEV_OPTIONS_MAX) {
		return json_error(&at, eb, -EINVAL, "no object of at most %u options",
		                  FENCE_DEV_OPTIONS_MAX);
	}
	json_object_foreach(map, key, value)
	{
		err = err == 0 ? option_check(&at, key, value, eb) : err;
	}
	return err;
}

/* What must not be read by everybody who may look at the cluster. */
static bool looks_secret(const char *key)
{
	return strstr(key, "pass") != NULL || strstr(key, "secret") != NULL ||
	       strstr(key, "token") != NULL || strcmp(key, "community") == 0;
}

static int none_is_secret(json_t *map, struct errbuf *eb)
{
	const char *key;
	json_t *value;

	json_object_foreach(map, key, value)
	{
		if (looks_secret(key)) {
			(void)errbuf_set(eb, -EINVAL,
			                 "option %s would be shown to everybody who may look", key);
			errbuf_hint(eb, "give it as a secret: godwit fence add --secrets FILE");
			return -EINVAL;
		}
	}
	return 0;
}

/* "key=value\n"... Returns memory to wipe and free; NULL = no memory. */
static char *lines_of(json_t *options)
{
	size_t size = 1;
	const char *key;
	json_t *value;
	struct text t;
	char *out;

	json_object_foreach(options, key, value)
	{
		size += strlen(key) + json_string_length(value) + 2;
	}
	out = gw_malloc(size);
	if (out == NULL) {
		return NULL;
	}
	text_init(&t, out, size);
	json_object_foreach(options, key, value)
	{
		text_add(&t, "%s=%s\n", key, json_string_value(value));
	}
	return out;
}

/* The seal is of this device: it cannot be put into another one's document. */
static void label_of(const char *name, char buf[LABEL_MAX])
{
	(void)snprintf(buf, LABEL_MAX, "godwit fence device %s", name);
}

static int seal_secrets(json_t *secrets, const char *name, struct tls_seal *seal, json_t *doc,
                        struct errbuf *eb)
{
	char label[LABEL_MAX];
	char *lines = lines_of(secrets);
	json_t *names = json_array();
	char *sealed = NULL;
	const char *key;
	json_t *value;
	int err;

	label_of(name, label);
	seal->label = label;
	err = lines != NULL && names != NULL ? tls_seal(seal, lines, &sealed, eb) : -ENOMEM;
	seal->label = NULL;
	fence_dev_wipe(lines);
	json_object_foreach(secrets, key, value)
	{
		if (err == 0 && json_array_append_new(names, json_string(key)) != 0) {
			err = -ENOMEM;
		}
	}
	if (err == 0 && (json_object_set(doc, "secrets", names) != 0 ||
	                 json_object_set_new(doc, "sealed", json_string(sealed)) != 0)) {
		err = -ENOMEM;
	}
	free(sealed);
	json_decref(names);
	return err;
}

/* What may stand in both is never in both: the agent would take one of them. */
static int twice(const json_t *options, json_t *secrets, struct errbuf *eb)
{
	const char *key;
	json_t *value;

	json_object_foreach(secrets, key, value)
	{
		if (json_object_get(options, key) != NULL) {
			return errbuf_set(eb, -EINVAL, "%s is there as an option and as a secret",
			                  key);
		}
	}
	return 0;
}

struct wish {
	const char *node;
	const char *agent;
	uint64_t level;
	json_t *options; /* borrowed, as the next; NULL = none */
	json_t *secrets;
};

static int wish_read(const struct json_at *at, struct wish *out, struct errbuf *eb)
{
	static const char *const known[] = {"name", "node", "level", "agent", "options", "secrets"};
	int err = json_check_members(at, known, ARRAY_LEN(known), eb);

	*out = (struct wish){.level = 1};
	if (err == 0) {
		err = json_get_str(at, "node", 63, &out->node, eb);
	}
	if (err == 0) {
		err = json_get_str(at, "agent", FENCE_AGENT_NAME_MAX - 1, &out->agent, eb);
	}
	if (err == 0) {
		err = json_opt_u64(at, "level", 1, FENCE_LEVELS_MAX, &out->level, eb);
	}
	if (err == 0) {
		out->options = json_object_get(at->value, "options");
		out->secrets = json_object_get(at->value, "secrets");
	}
	return err;
}

static int wish_check(const struct wish *w, struct errbuf *eb)
{
	int err = w->options != NULL ? options_check(w->options, "options", eb) : 0;

	if (err == 0 && w->options != NULL) {
		err = none_is_secret(w->options, eb);
	}
	if (err == 0 && w->secrets != NULL) {
		err = options_check(w->secrets, "secrets", eb);
	}
	if (err == 0 && w->secrets != NULL && w->options != NULL) {
		err = twice(w->options, w->secrets, eb);
	}
	return err;
}

/* What the agent will be asked with: does its door take it? */
static int agent_takes(const char *agent, const json_t *doc, const char *name,
                       struct tls_seal *seal, struct errbuf *eb)
{
	struct fence_agent a = {.dir = FENCE_AGENT_DIR, .name = agent};
	struct fence_dev dev;
	char *options = NULL;
	int err = fence_dev_decode(doc, &dev, eb);

	if (err == 0) {
		err = fence_dev_options(&dev, name, seal, &options, eb);
	}
	if (err == 0) {
		a.options = options;
		err = fence_agent_check(&a, eb);
	}
	fence_dev_wipe(options);
	return err;
}

int fence_dev_make(const json_t *wish, const char *name, const char *uuid, struct tls_seal *seal,
                   json_t **out, struct errbuf *eb)
{
	const struct json_at at = json_root(wish, "");
	struct wish w = {.level = 1};
	json_t *doc = NULL;
	int err = wish_read(&at, &w, eb);

	*out = NULL;
	if (err == 0) {
		err = wish_check(&w, eb);
	}
	if (err == 0) {
		doc = json_pack("{s:s,s:s,s:I,s:s,s:o}", "node", w.node, "uuid", uuid, "level",
		                (json_int_t)w.level, "agent", w.agent, "options",
		                w.options != NULL ? json_deep_copy(w.options) : json_object());
		err = doc != NULL ? 0 : -ENOMEM;
	}
	if (err == 0 && json_object_size(w.secrets) != 0) {
		err = seal_secrets(w.secrets, name, seal, doc, eb);
	}
	if (err == 0) {
		err = agent_takes(w.agent, doc, name, seal, eb);
	}
	if (err != 0) {
		json_decref(doc);
		return err;
	}
	*out = doc;
	return 0;
}

int fence_dev_decode(const json_t *doc, struct fence_dev *out, struct errbuf *eb)
{
	const struct json_at at = json_root(doc, "fence device");
	struct fence_dev dev = {.sealed = ""};
	uint64_t level = 0;
	int err = json_get_str(&at, "node", 63, &dev.node, eb);

	if (err == 0) {
		err = json_get_str(&at, "uuid", 63, &dev.uuid, eb);
	}
	if (err == 0) {
		err = json_get_str(&at, "agent", FENCE_AGENT_NAME_MAX - 1, &dev.agent, eb);
	}
	if (err == 0) {
		err = json_get_u64(&at, "level", 1, FENCE_LEVELS_MAX, &level, eb);
	}
	if (err == 0) {
		dev.options = json_object_get(doc, "options");
		err = options_check(dev.options, "options", eb);
	}
	if (err == 0) {
		err = json_opt_str(&at, "sealed", 2 * TLS_SEAL_TEXT_MAX + 256, &dev.sealed, eb);
	}
	if (err == 0) {
		dev.level = (uint32_t)level - 1;
		*out = dev;
	}
	return err;
}

int fence_dev_options(const struct fence_dev *dev, const char *name, struct tls_seal *seal,
                      char **out, struct errbuf *eb)
{
	char label[LABEL_MAX];
	char *open = lines_of(dev->options);
	char *secret = NULL;
	char *all = NULL;
	int err = open != NULL ? 0 : -ENOMEM;

	*out = NULL;
	if (err == 0 && dev->sealed[0] != '\0') {
		label_of(name, label);
		seal->label = label;
		err = tls_unseal(seal, dev->sealed, &secret, eb);
		seal->label = NULL;
		if (err != 0) {
			errbuf_prepend(eb, "secrets of fence device %s", name);
			errbuf_hint(eb, "remove it and add it again: they were sealed for another "
			                "cluster");
		}
	}
	if (err == 0) {
		size_t size = strlen(open) + (secret != NULL ? strlen(secret) : 0) + 1;
		struct text t;

		all = gw_malloc(size);
		err = all != NULL ? 0 : -ENOMEM;
		if (all != NULL) {
			text_init(&t, all, size);
			text_add(&t, "%s%s", open, secret != NULL ? secret : "");
		}
	}
	free(open);
	tls_pem_free(secret);
	*out = all;
	return err;
}

void fence_dev_wipe(char *options)
{
	if (options != NULL) {
		hash_wipe(options, strlen(options));
		free(options);
	}
}

json_t *fence_dev_show(const json_t *doc, const char *name)
{
	json_t *out = json_deep_copy(doc);

	if (out == NULL) {
		return NULL;
	}
	(void)json_object_del(out, "sealed");
	(void)json_object_del(out, "uuid");
	if (json_object_get(out, "secrets") == NULL) {
		(void)json_object_set_new(out, "secrets", json_array());
	}
	(void)json_object_set_new(out, "name", json_string(name));
	return out;
}
