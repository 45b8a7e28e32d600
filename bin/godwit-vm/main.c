/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/godwit-vm/godwit_vm.h"

int main(int argc, char *argv[])
{
	return cli_run(&godwit_vm_app, argc, (const char *const *)argv, stdout, stderr, NULL);
}
