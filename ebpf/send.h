/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Rewriting a packet, finding its way, and answering it where it can go no further. */
#ifndef SEND_H
#define SEND_H

#include <linux/pkt_cls.h>

#include "packet.h"

#ifndef offsetof
#define offsetof(type, field) __builtin_offsetof(type, field)
#endif

#define AF_INET 2
#define AF_INET6 10

/* An error, in ICMP and ICMPv6. The kernel's headers for it need those of the C library. */
struct icmp_error {
	__u8 type;
	__u8 code;
	__be16 checksum;
	/* In ICMP only the last 16 bits. */
	__be32 mtu;
};

#define ICMP_UNREACHABLE 3
#define ICMP_FRAGMENTATION_NEEDED 4
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PACKET_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMETER_PROBLEM 4

#define OF_IP(field) (L3 + offsetof(struct iphdr, field))
#define OF_IPV6(field) (L3 + offsetof(struct ipv6hdr, field))

/* Link header, and the longest of the network's. */
#define MOST_BEFORE_L4 (L3 + 60)

/* Where a packet can go. */
enum way {
	/* Out of an interface, with the link addresses known. */
	DIRECT,
	/* Out of an interface; the kernel asks for the neighbour. */
	BY_NEIGHBOUR,
	TOO_BIG,
	NOWHERE,
};

struct route {
	__u32 interface;
	__u32 mtu;
	__u8 destination[6];
	__u8 source[6];
};

/* The way of the packet after its rewriting by "c". */
static __noinline int find_way(struct __sk_buff *skb, const struct packet *packet, const struct connection *c,
			       struct route *route)
{
	struct bpf_fib_lookup fib = {};
	__u32 mtu = packet->length;
	long found;

	fib.l4_protocol = packet->tuple.protocol;
	fib.sport = c->from_port;
	fib.dport = c->to_port;
	fib.tot_len = packet->length > 0xffff ? 0xffff : packet->length;
	fib.ifindex = skb->ifindex;
	if (packet->is_ipv6) {
		fib.family = AF_INET6;
		fib.flowinfo = bpf_htonl((__u32)packet->tos << 20);
		copy(fib.ipv6_src, c->from);
		copy(fib.ipv6_dst, c->to);
	} else {
		fib.family = AF_INET;
		fib.tos = packet->tos;
		fib.ipv4_src = c->from[3];
		fib.ipv4_dst = c->to[3];
	}
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	route->interface = fib.ifindex;
	switch (found) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		__builtin_memcpy(route->destination, fib.dmac, 6);
		__builtin_memcpy(route->source, fib.smac, 6);
		return DIRECT;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return BY_NEIGHBOUR;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		route->mtu = fib.mtu_result;
		return TOO_BIG;
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		/* This machine is no router: its own routes are asked, as for user space, and the interface is known. */
		route->interface = c->interface;
		found = bpf_check_mtu(skb, c->interface, &mtu, 0, 0);
		if (found < 0)
			return NOWHERE;
		/* It lets packets that stand for several pass, and tells the MTU in each case. */
		if (packet->length > mtu) {
			route->mtu = mtu;
			return TOO_BIG;
		}
		return BY_NEIGHBOUR;
	default:
		return NOWHERE;
	}
}

/* Where to write "length" bytes at "at", which is bounded; until the next call that changes the packet. */
static __always_inline void *written(struct __sk_buff *skb, __u32 at, __u32 length)
{
	if ((void *)(long)skb->data + at + length > (void *)(long)skb->data_end &&
	    bpf_skb_pull_data(skb, at + length))
		return NULL;
	void *there = (void *)(long)skb->data + at;
	return there + length > (void *)(long)skb->data_end ? NULL : there;
}

/* A sum of 32 bits that stands for the same. */
static __always_inline __u32 fold_once(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

static __always_inline __be16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline int send(struct __sk_buff *skb, enum way way, const struct route *route)
{
	/* A priority tag is of the link that it came over. */
	if (skb->vlan_present && bpf_skb_vlan_pop(skb))
		return TC_ACT_SHOT;
	if (way == BY_NEIGHBOUR)
		return bpf_redirect_neigh(route->interface, NULL, 0, 0);
	/* What a device computed of the packet (CHECKSUM_COMPLETE) is without the link's header. */
	__u8 *link = written(skb, 0, 2 * ETH_ALEN);
	if (!link)
		return TC_ACT_SHOT;
	__builtin_memcpy(link, route->destination, ETH_ALEN);
	__builtin_memcpy(link + ETH_ALEN, route->source, ETH_ALEN);
	return bpf_redirect(route->interface, 0);
}

/*
 * Puts the addresses of "c" and the lower TTL into the network header.
 *
 * The checksum that a device computed of the whole packet (CHECKSUM_COMPLETE) stays true: in IPv4 what the header loses
 * its checksum wins; in IPv6 the store itself accounts for it, since the header has no checksum.
 *
 * Returns the difference of the addresses for checksums over a pseudo header, or a negative number.
 */
static __noinline __s64 rewrite_network(struct __sk_buff *skb, const struct packet *packet, const struct connection *c)
{
	__s64 difference;
	__u8 ttl = packet->ttl - 1;

	if (packet->is_ipv6) {
		difference = bpf_csum_diff((__be32 *)packet->tuple.from, 32, (__be32 *)c->from, 32, 0);
		if (bpf_skb_store_bytes(skb, OF_IPV6(hop_limit), &ttl, 1, BPF_F_RECOMPUTE_CSUM) ||
		    bpf_skb_store_bytes(skb, OF_IPV6(saddr), c->from, 32, BPF_F_RECOMPUTE_CSUM))
			return -1;
		return difference;
	}
	struct iphdr *ip = written(skb, L3, sizeof(*ip));
	if (!ip)
		return -1;
	__u32 sum = fold_once((__u64)(__u32)~packet->tuple.from[3] + (__u32)~packet->tuple.to[3] + c->from[3] + c->to[3]);
	ip->check = fold(fold_once((__u64)sum + (__u16)~ip->check + (__u16)~bpf_htons(packet->ttl << 8) +
				   bpf_htons(ttl << 8)));
	ip->ttl = ttl;
	ip->saddr = c->from[3];
	ip->daddr = c->to[3];
	return sum;
}

/* Addresses, ports and checksums of TCP and UDP. */
static __noinline int rewrite(struct __sk_buff *skb, const struct packet *packet, const struct connection *c)
{
	__u32 is_udp = packet->tuple.protocol == IPPROTO_UDP;
	__u32 checksum = packet->l4 + (is_udp ? offsetof(struct udphdr, check) : offsetof(struct tcphdr, check));
	/* In IPv4 a UDP checksum of zero says that there is none. */
	__u64 flags = is_udp && !packet->is_ipv6 ? BPF_F_MARK_MANGLED_0 : 0;
	__be16 before[2] = { packet->tuple.from_port, packet->tuple.to_port };
	__be16 after[2] = { c->from_port, c->to_port };
	__s64 difference = rewrite_network(skb, packet, c);

	if (difference < 0)
		return -1;
	if (packet->is_headless)
		return 0;
	/* Other widths of the same place confuse compilers: both are copied. */
	__u32 old_ports, new_ports;
	__builtin_memcpy(&old_ports, before, 4);
	__builtin_memcpy(&new_ports, after, 4);
	if (bpf_l4_csum_replace(skb, checksum, 0, difference, flags | BPF_F_PSEUDO_HDR) ||
	    bpf_l4_csum_replace(skb, checksum, old_ports, new_ports, flags | 4))
		return -1;
	__u32 at = packet->l4;
	if (at > MOST_BEFORE_L4)
		return -1;
	__be16 *ports = written(skb, at, sizeof(after));
	if (!ports)
		return -1;
	ports[0] = after[0];
	ports[1] = after[1];
	return 0;
}

union answer {
	struct {
		struct iphdr ip;
		struct icmp_error icmp;
	} v4;
	struct {
		struct ipv6hdr ip;
		struct icmp_error icmp;
	} v6;
};

/* The most of a packet that its answer quotes, and the steps below: each is a whole number of words, and the least has
 * the ports. */
#define QUOTE_MOST 88

/*
 * Sends the packet back as the ICMP error that says so (RFC 792, RFC 1191, RFC 4443): "mtu" or a TTL that has run out.
 */
static __noinline int answer(struct __sk_buff *skb, const struct packet *packet, __u32 mtu)
{
	__u8 quote[QUOTE_MOST];
	union answer out = {};
	__u32 quoted, header, here = skb->ifindex;
	__s64 sum;

	if (packet->is_ipv6) {
		header = sizeof(out.v6);
		quoted = skb->len >= L3 + 88 ? 88 : skb->len >= L3 + 60 ? 60 : 48;
	} else {
		header = sizeof(out.v4);
		quoted = skb->len >= L3 + 84 ? 84 : skb->len >= L3 + 40 ? 40 : 28;
	}
	switch (quoted) {
#define QUOTE(length)                                                                                                  \
	case length:                                                                                                   \
		if (bpf_skb_load_bytes(skb, L3, quote, length))                                                        \
			goto unsendable;                                                                               \
		sum = bpf_csum_diff(NULL, 0, (__be32 *)quote, length, 0);                                              \
		break
	QUOTE(88);
	QUOTE(84);
	QUOTE(60);
	QUOTE(48);
	QUOTE(40);
	QUOTE(28);
#undef QUOTE
	default:
		goto unsendable;
	}
	if (packet->is_ipv6) {
		struct {
			__be32 length;
			__be32 next;
		} pseudo = { bpf_htonl(sizeof(out.v6.icmp) + quoted), bpf_htonl(IPPROTO_ICMPV6) };

		out.v6.ip.version = 6;
		out.v6.ip.payload_len = bpf_htons(sizeof(out.v6.icmp) + quoted);
		out.v6.ip.nexthdr = IPPROTO_ICMPV6;
		out.v6.ip.hop_limit = 64;
		__builtin_memcpy(&out.v6.ip.saddr, packet->tuple.to, 16);
		__builtin_memcpy(&out.v6.ip.daddr, packet->tuple.from, 16);
		out.v6.icmp.type = mtu ? ICMPV6_PACKET_TOO_BIG : ICMPV6_TIME_EXCEEDED;
		out.v6.icmp.mtu = bpf_htonl(mtu);
		sum = bpf_csum_diff(NULL, 0, (__be32 *)&out.v6.ip.saddr, 32, sum);
		sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), sum);
		sum = bpf_csum_diff(NULL, 0, (__be32 *)&out.v6.icmp, sizeof(out.v6.icmp), sum);
		out.v6.icmp.checksum = fold(sum);
	} else {
		out.v4.ip.version = 4;
		out.v4.ip.ihl = 5;
		out.v4.ip.tot_len = bpf_htons(sizeof(out.v4) + quoted);
		out.v4.ip.ttl = 64;
		out.v4.ip.protocol = IPPROTO_ICMP;
		out.v4.ip.saddr = packet->tuple.to[3];
		out.v4.ip.daddr = packet->tuple.from[3];
		out.v4.ip.check = fold(bpf_csum_diff(NULL, 0, (__be32 *)&out.v4.ip, sizeof(out.v4.ip), 0));
		out.v4.icmp.type = mtu ? ICMP_UNREACHABLE : ICMP_TIME_EXCEEDED;
		out.v4.icmp.code = mtu ? ICMP_FRAGMENTATION_NEEDED : 0;
		out.v4.icmp.mtu = bpf_htonl(mtu);
		sum = bpf_csum_diff(NULL, 0, (__be32 *)&out.v4.icmp, sizeof(out.v4.icmp), sum);
		out.v4.icmp.checksum = fold(sum);
	}
	if (bpf_skb_change_tail(skb, L3 + quoted, 0) || bpf_skb_adjust_room(skb, header, BPF_ADJ_ROOM_MAC, 0))
		goto unsendable;
	if (packet->is_ipv6 ? bpf_skb_store_bytes(skb, L3, &out.v6, sizeof(out.v6), BPF_F_RECOMPUTE_CSUM)
			    : bpf_skb_store_bytes(skb, L3, &out.v4, sizeof(out.v4), BPF_F_RECOMPUTE_CSUM))
		goto unsendable;
	__u16 *link = written(skb, 0, 2 * ETH_ALEN);
	if (!link)
		goto unsendable;
	/* The sender becomes the receiver. */
	for (int i = 0; i < 3; i++) {
		__u16 receiver = link[i];

		link[i] = link[3 + i];
		link[3 + i] = receiver;
	}
	count(mtu ? ANSWERED_TOO_BIG : ANSWERED_TIME_EXCEEDED);
	return bpf_redirect(here, 0);
unsendable:
	count(DROPPED_UNSENDABLE);
	return TC_ACT_SHOT;
}

#endif
