/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/common/version.h"

const char godwit_version[] = GW_VERSION;
