/* SPDX-License-Identifier: Apache-2.0 */
/* `godwit vm console`: the terminal on one side, the guest's serial port on the other. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/errbuf.h"
#include "base/json.h"
#include "bin/godwit/vm.h"

#define CONSOLE_LEAVE 0x1d /* ^] */

struct console {
	const struct cli_call *call;
	struct api_channel *channel;
	int in_fd;
	bool in_open;
	char pending[256]; /* typed, not yet taken by the channel */
	size_t pending_len;
};

static int all_write(FILE *out, const char *buf, size_t len)
{
	return fwrite(buf, 1, len, out) == len && fflush(out) == 0 ? 0 : -EPIPE;
}

/* Guest to terminal. Returns 1 at the end. */
static int console_output(struct console *c)
{
	char buf[4096];
	ssize_t n;

	while ((n = api_channel_read(c->channel, buf, sizeof(buf))) > 0) {
		if (all_write(c->call->out, buf, (size_t)n) != 0) {
			return 1;
		}
	}
	return n == -EAGAIN ? 0 : 1;
}

static int console_push(struct console *c)
{
	while (c->pending_len != 0) {
		ssize_t n = api_channel_write(c->channel, c->pending, c->pending_len);

		if (n == -EAGAIN) {
			return 0;
		}
		if (n < 0) {
			return 1;
		}
		c->pending_len -= (size_t)n;
		memmove(c->pending, c->pending + n, c->pending_len);
	}
	return 0;
}

/* Terminal to guest. Returns 1 when the user leaves. */
static int console_input(struct console *c)
{
	ssize_t n = read(c->in_fd, c->pending, sizeof(c->pending));
	char *leave = n > 0 ? memchr(c->pending, CONSOLE_LEAVE, (size_t)n) : NULL;

	if (n <= 0) {
		c->in_open = false; /* end of a script's input: go on showing output */
		return 0;
	}
	c->pending_len = leave != NULL ? (size_t)(leave - c->pending) : (size_t)n;
	return console_push(c) != 0 || leave != NULL;
}

static void console_loop(struct console *c)
{
	bool over = false;

	while (!over) {
		bool read_more = c->in_open && c->pending_len == 0;
		struct pollfd fds[2] = {
			{.fd = api_channel_fd(c->channel),
		         .events = (short)(POLLIN | (c->pending_len != 0 ? POLLOUT : 0))},
			{.fd = read_more ? c->in_fd : -1, .events = POLLIN},
		};

		if (poll(fds, 2, -1) < 0 && errno != EINTR) {
			return;
		}
		if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
			over = console_output(c) != 0;
		}
		if (!over && (fds[0].revents & POLLOUT) != 0) {
			over = console_push(c) != 0;
		}
		if (!over && read_more && fds[1].revents != 0) {
			over = console_input(c) != 0;
		}
	}
}

int vm_console_run(const struct cli_call *call, void *arg)
{
	struct console c = {.call = call, .in_fd = STDIN_FILENO, .in_open = true};
	struct api_client *client = NULL;
	struct termios saved;
	struct termios raw;
	struct errbuf eb = {0};
	bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &saved) == 0;
	char *path = api_path("/v1/vms/{name}/console", cli_arg_at(call, 0));
	int err = path != NULL
	                  ? godwit_channel(call, path, "godwit-console", &client, &c.channel, &eb)
	                  : -ENOMEM;

	(void)arg;
	free(path);
	if (err < 0) {
		return godwit_fail(call, err, &eb);
	}
	godwit_note(call, "connected to the console of %s; ^] leaves", cli_arg_at(call, 0));
	if (terminal) {
		raw = saved;
		cfmakeraw(&raw);
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	console_loop(&c);
	if (terminal) {
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	}
	api_channel_close(c.channel);
	api_client_destroy(client);
	return CLI_DONE;
}
