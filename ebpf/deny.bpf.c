/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The deny list: packets to a listener of gapi from a denied prefix are dropped. Two programs that decide alike: for XDP,
 * where the driver runs it before a packet has cost anything, and for tc. What is cut short, no first fragment, or of
 * another protocol passes: it reaches no listener. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "gapi.h"

#define MAX_PREFIXES (1 << 22)
#define MAX_LISTENERS (1 << 14)
/* RFC 8200 has each once, and destination options twice. */
#define MAX_EXTENSIONS 8
#define MAX_TAGS 2

/* An address and port that a listener of gapi is bound to; IPv4 as IPv4-mapped IPv6. */
struct deny_listener {
	__u8 address[16];
	__be16 port;
	__u8 protocol;
	__u8 zero;
};
SIZE_IS(struct deny_listener, 20);

struct deny_v4 {
	__u32 length;
	__u8 address[4];
};

struct deny_v6 {
	__u32 length;
	__u8 address[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_LISTENERS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct deny_listener);
	__type(value, __u8);
} deny_listeners SEC(".maps");

/* The list in force: one slot each, which is flipped when the list is replaced. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);
		__uint(max_entries, MAX_PREFIXES);
		__uint(map_flags, BPF_F_NO_PREALLOC);
		__uint(key_size, sizeof(struct deny_v4));
		__uint(value_size, sizeof(__u8));
	});
} deny_prefixes_v4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);
		__uint(max_entries, MAX_PREFIXES);
		__uint(map_flags, BPF_F_NO_PREALLOC);
		__uint(key_size, sizeof(struct deny_v6));
		__uint(value_size, sizeof(__u8));
	});
} deny_prefixes_v6 SEC(".maps");

/* Packets that were dropped. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} deny_dropped SEC(".maps");

/* Where a packet is read: XDP counts from the start of the frame, tc from the network header. */
struct packet {
	void *ctx;
	int xdp;
};

static __always_inline int load(struct packet *packet, __u32 offset, void *to, __u32 length)
{
	if (packet->xdp)
		return bpf_xdp_load_bytes(packet->ctx, offset, to, length);
	return bpf_skb_load_bytes_relative(packet->ctx, offset, to, length, BPF_HDR_START_NET);
}

/* Is a packet to this address and port for a listener of gapi? */
static __always_inline int has_listener(struct deny_listener *local, int is_v4)
{
	struct deny_listener any = { .port = local->port, .protocol = local->protocol };

	if (is_v4)
		any.address[10] = any.address[11] = 0xff;
	return bpf_map_lookup_elem(&deny_listeners, &any) || bpf_map_lookup_elem(&deny_listeners, local);
}

static __always_inline int load_port(struct packet *packet, __u32 offset, struct deny_listener *local)
{
	__be16 ports[2];

	if (local->protocol != IPPROTO_TCP && local->protocol != IPPROTO_UDP)
		return -1;
	if (load(packet, offset, ports, sizeof(ports)))
		return -1;
	local->port = ports[1];
	return 0;
}

static __always_inline int is_denied_v4(struct packet *packet, __u32 offset)
{
	struct deny_listener local = {};
	struct deny_v4 source = { .length = 32 };
	struct iphdr ip;
	__u32 zero = 0;
	void *prefixes;

	if (load(packet, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return 0;
	if (ip.frag_off & bpf_htons(0x1fff))
		return 0;
	local.protocol = ip.protocol;
	if (load_port(packet, offset + ip.ihl * 4, &local))
		return 0;
	local.address[10] = local.address[11] = 0xff;
	__builtin_memcpy(local.address + 12, &ip.daddr, 4);
	if (!has_listener(&local, 1))
		return 0;
	__builtin_memcpy(source.address, &ip.saddr, 4);
	prefixes = bpf_map_lookup_elem(&deny_prefixes_v4, &zero);
	return prefixes && bpf_map_lookup_elem(prefixes, &source);
}

/* Behind the extension headers: the protocol, and where it begins. */
static __always_inline int skip_extensions(struct packet *packet, __u32 *offset, __u8 *protocol)
{
	struct {
		__u8 next;
		__u8 length;
		__be16 fragment;
	} extension;

#pragma unroll
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		switch (*protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_FRAGMENT:
		case IPPROTO_AH:
			break;
		default:
			return 0;
		}
		if (load(packet, *offset, &extension, sizeof(extension)))
			return -1;
		if (*protocol == IPPROTO_FRAGMENT) {
			if (extension.fragment & bpf_htons(0xfff8))
				return -1;
			*offset += 8;
		} else if (*protocol == IPPROTO_AH) {
			*offset += (extension.length + 2) * 4;
		} else {
			*offset += (extension.length + 1) * 8;
		}
		*protocol = extension.next;
	}
	return -1;
}

static __always_inline int is_denied_v6(struct packet *packet, __u32 offset)
{
	struct deny_listener local = {};
	struct deny_v6 source = { .length = 128 };
	struct ipv6hdr ip;
	__u32 zero = 0;
	void *prefixes;

	if (load(packet, offset, &ip, sizeof(ip)) || ip.version != 6)
		return 0;
	local.protocol = ip.nexthdr;
	offset += sizeof(ip);
	if (skip_extensions(packet, &offset, &local.protocol) || load_port(packet, offset, &local))
		return 0;
	__builtin_memcpy(local.address, &ip.daddr, 16);
	if (!has_listener(&local, 0))
		return 0;
	__builtin_memcpy(source.address, &ip.saddr, 16);
	prefixes = bpf_map_lookup_elem(&deny_prefixes_v6, &zero);
	return prefixes && bpf_map_lookup_elem(prefixes, &source);
}

static __always_inline int is_tag(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* `protocol` is that of what begins at `offset`. */
static __always_inline int is_denied(struct packet *packet, __be16 protocol, __u32 offset)
{
	struct {
		__be16 tag;
		__be16 protocol;
	} vlan;

#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++) {
		if (!is_tag(protocol))
			break;
		if (load(packet, offset, &vlan, sizeof(vlan)))
			return 0;
		protocol = vlan.protocol;
		offset += sizeof(vlan);
	}
	if (protocol == bpf_htons(ETH_P_IP))
		return is_denied_v4(packet, offset);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return is_denied_v6(packet, offset);
	return 0;
}

static __always_inline void count(__u32 packets)
{
	__u32 zero = 0;
	__u64 *dropped = bpf_map_lookup_elem(&deny_dropped, &zero);

	if (dropped)
		*dropped += packets;
}

SEC("xdp.frags")
int gapi_deny_xdp(struct xdp_md *ctx)
{
	struct packet packet = { .ctx = ctx, .xdp = 1 };
	struct ethhdr ethernet;

	if (load(&packet, 0, &ethernet, sizeof(ethernet)))
		return XDP_PASS;
	if (!is_denied(&packet, ethernet.h_proto, sizeof(ethernet)))
		return XDP_PASS;
	count(1);
	return XDP_DROP;
}

SEC("classifier")
int gapi_deny_tc(struct __sk_buff *skb)
{
	struct packet packet = { .ctx = skb, .xdp = 0 };

	/* What is for another machine's Ethernet address is here because somebody listens to all. */
	if (skb->pkt_type == PACKET_OTHERHOST)
		return TC_ACT_UNSPEC;
	if (!is_denied(&packet, skb->protocol, 0))
		return TC_ACT_UNSPEC;
	/* Several may come as one. */
	count(skb->gso_segs ?: 1);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
