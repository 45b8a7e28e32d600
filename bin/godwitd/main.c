/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwitd/godwitd.h"

int main(int argc, char *argv[])
{
	return cli_run(&godwitd_app, argc, (const char *const *)argv, stdout, stderr, NULL);
}
