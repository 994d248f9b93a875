/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Layer-4 load balancing: packets of clients to backends on other machines, and their answers. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "gapi.h"

SEC("classifier")
int gapi_forward(struct __sk_buff *skb)
{
	(void)skb;
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
