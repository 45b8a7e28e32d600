/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwit-csvd/godwit_csvd.h"

int main(int argc, char *argv[])
{
	return cli_run(&godwit_csvd_app, argc, (const char *const *)argv, stdout, stderr, NULL);
}
