/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * ICMP errors about packets of connections, in either direction: what they quote is brought back to what the sender
 * knows (RFC 5508, section 4). They seem to come from the address that the sender spoke to.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include "connection.h"
#include "send.h"

#define QUOTE(packet) ((packet)->l4 + sizeof(struct icmp_error))

/* Reads the quoted packet's tuple, turned round: that of the direction from its receiver. */
static __always_inline int read_quote(struct __sk_buff *skb, const struct packet *packet, struct packet *quoted)
{
	__be16 ports[2];
	__u32 ports_at;

	if (packet->is_ipv6) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, QUOTE(packet), &ip, sizeof(ip)) || ip.version != 6)
			return -1;
		__builtin_memcpy(quoted->tuple.to, &ip.saddr, 16);
		__builtin_memcpy(quoted->tuple.from, &ip.daddr, 16);
		quoted->tuple.protocol = ip.nexthdr;
		ports_at = QUOTE(packet) + sizeof(ip);
	} else {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, QUOTE(packet), &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
		    ip.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
			return -1;
		map_ipv4(quoted->tuple.to, ip.saddr);
		map_ipv4(quoted->tuple.from, ip.daddr);
		quoted->tuple.protocol = ip.protocol;
		ports_at = QUOTE(packet) + ip.ihl * 4;
	}
	if (quoted->tuple.protocol != IPPROTO_TCP && quoted->tuple.protocol != IPPROTO_UDP)
		return -1;
	if (bpf_skb_load_bytes(skb, ports_at, ports, sizeof(ports)))
		return -1;
	quoted->tuple.to_port = ports[0];
	quoted->tuple.from_port = ports[1];
	quoted->l4 = ports_at;
	return 0;
}

/* Puts into the quoted packet what its sender had sent. */
static __noinline int rewrite_quote(struct __sk_buff *skb, const struct packet *packet, const struct packet *quoted,
				    const struct connection *c)
{
	__u32 checksum = packet->l4 + offsetof(struct icmp_error, checksum);
	__be16 before[2] = { quoted->tuple.to_port, quoted->tuple.from_port };
	__be16 after[2] = { c->to_port, c->from_port };
	__u32 old_ports, new_ports, bytes[16];

	__builtin_memcpy(&old_ports, before, 4);
	__builtin_memcpy(&new_ports, after, 4);
	if (bpf_l4_csum_replace(skb, checksum, old_ports, new_ports, 4) ||
	    bpf_skb_store_bytes(skb, quoted->l4, &new_ports, 4, 0))
		return -1;
	if (packet->is_ipv6) {
		copy(bytes, quoted->tuple.to);
		copy(bytes + 4, quoted->tuple.from);
		copy(bytes + 8, c->to);
		copy(bytes + 12, c->from);
		if (bpf_l4_csum_replace(skb, checksum, 0, bpf_csum_diff(bytes, 32, bytes + 8, 32, 0), 0))
			return -1;
		return bpf_skb_store_bytes(skb, QUOTE(packet) + offsetof(struct ipv6hdr, saddr), bytes + 8, 32, 0);
	}
	bytes[0] = quoted->tuple.to[3];
	bytes[1] = quoted->tuple.from[3];
	bytes[2] = c->to[3];
	bytes[3] = c->from[3];
	/* The quoted header and its checksum together stay what they were to the checksum of ICMP. */
	if (bpf_l3_csum_replace(skb, QUOTE(packet) + offsetof(struct iphdr, check), 0,
				bpf_csum_diff(bytes, 8, bytes + 2, 8, 0), 0))
		return -1;
	return bpf_skb_store_bytes(skb, QUOTE(packet) + offsetof(struct iphdr, saddr), bytes + 2, 8, 0);
}

enum meaning {
	NO_ERROR,
	UNREACHABLE,
	OTHER_ERROR,
};

static __always_inline enum meaning meaning(const struct packet *packet, __u8 type, __u8 code)
{
	if (packet->is_ipv6)
		return type == ICMPV6_UNREACHABLE ? UNREACHABLE
		       : type >= ICMPV6_PACKET_TOO_BIG && type <= ICMPV6_PARAMETER_PROBLEM ? OTHER_ERROR
											    : NO_ERROR;
	if (type == ICMP_UNREACHABLE)
		return code == ICMP_FRAGMENTATION_NEEDED ? OTHER_ERROR : UNREACHABLE;
	return type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM ? OTHER_ERROR : NO_ERROR;
}

static __noinline int control(struct __sk_buff *skb, struct packet *packet)
{
	const struct settings *set = settings();
	struct packet quoted = {};
	struct connection *c;
	struct route route = {};
	__s64 difference;
	__u8 head[2];
	enum meaning said;
	int way;

	if (!set || bpf_skb_load_bytes(skb, packet->l4, head, sizeof(head)))
		return TC_ACT_UNSPEC;
	said = meaning(packet, head[0], head[1]);
	if (said == NO_ERROR || read_quote(skb, packet, &quoted))
		return TC_ACT_UNSPEC;
	/* It comes to whoever sent what it quotes, or was made up. */
	if (!is_same(packet->tuple.to, quoted.tuple.to))
		return TC_ACT_UNSPEC;
	c = find(&quoted.tuple);
	if (!c || c->flags & IN_USER_SPACE || is_over(c, quoted.tuple.protocol, set, now()))
		return TC_ACT_UNSPEC;
	if (said == UNREACHABLE && c->flags & REVERSE && !(c->flags & ALONE)) {
		if (quoted.tuple.protocol == IPPROTO_UDP) {
			note(skb, &quoted.tuple, c, FAILED);
		} else if (!(c->flags & ANSWERED)) {
			/* The client's next SYN goes elsewhere. */
			note(skb, &quoted.tuple, c, FAILED);
			count(DROPPED_REFUSED);
			return TC_ACT_SHOT;
		}
	}
	if (packet->ttl <= 1)
		return TC_ACT_UNSPEC;
	way = find_way(skb, packet, c, &route);
	if (way == TOO_BIG || way == NOWHERE) {
		/* Nothing is said about errors (RFC 1122, section 3.2.2). */
		count(DROPPED_NO_ROUTE);
		return TC_ACT_SHOT;
	}
	if (rewrite_quote(skb, packet, &quoted, c))
		goto unsendable;
	difference = rewrite_network(skb, packet, c);
	if (difference < 0)
		goto unsendable;
	/* ICMPv6 has a pseudo header, ICMP has none. */
	if (packet->is_ipv6 && bpf_l4_csum_replace(skb, packet->l4 + offsetof(struct icmp_error, checksum), 0, difference,
						   BPF_F_PSEUDO_HDR))
		goto unsendable;
	return send(skb, way, &route);
unsendable:
	count(DROPPED_UNSENDABLE);
	return TC_ACT_SHOT;
}

#endif
