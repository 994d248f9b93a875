/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Hands the new connections of one address out to the sockets that share it, in turn. Where the one whose turn it is has
 * gone, the next has it; where all have, the kernel chooses by its hash. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "gapi.h"

#define MAX_SOCKETS 1024
/* Sockets that are tried for one connection. */
#define MAX_TRIES 4

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, __u32);
	__type(value, __u32);
} reuseport_sockets SEC(".maps");

/* How many are in there: set when the program is loaded. */
const volatile __u32 sockets = 1;
static __u32 turn;

SEC("sk_reuseport")
int gapi_reuseport(struct sk_reuseport_md *md)
{
#pragma unroll
	for (int i = 0; i < MAX_TRIES; i++) {
		__u32 index = __sync_fetch_and_add(&turn, 1) % sockets;

		if (!bpf_sk_select_reuseport(md, &reuseport_sockets, &index, 0))
			break;
	}
	return SK_PASS;
}

char LICENSE[] SEC("license") = "GPL";
