/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the programs and src/kernel/maps.rs both know. Each size is asserted here and there. */
#ifndef GAPI_H
#define GAPI_H

#include <linux/types.h>

#define SIZE_IS(type, size) _Static_assert(sizeof(type) == (size), #type " has another size than in maps.rs")

#endif
