/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEPLOY_LAB_AGENT_PORT_H
#define DEPLOY_LAB_AGENT_PORT_H

/*
 * port - serve one virtio-serial port: one command at a time, for whoever is connected.
 *
 * One process per port, so that a stuck client holds up nobody else. The session:
 *
 *	idle --HELLO--> greeted --START--> running --child ends--> idle
 *	  ^                |                  |
 *	  +---- hang-up ---+---- hang-up, HELLO: SIGHUP, then SIGKILL to the process group
 *
 * Standard input is credited: the client sends no more than PORT_STDIN_MAX bytes that the
 * command has not read, so the port is always read and a signal never waits behind data.
 */

#include <stdint.h>

#define PORT_STDIN_MAX 65536U

/*
 * port_serve() - serve @path until the device is gone.
 * @setup_status: told to each client in FRAME_READY.
 * Returns -errno: why it cannot go on.
 */
int port_serve(const char *path, uint32_t setup_status);

#endif
