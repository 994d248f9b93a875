/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Reading a packet: Ethernet, IPv4 or IPv6, TCP, UDP or ICMP, each length checked. */
#ifndef PACKET_H
#define PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "maps.h"

#define IPV4_MAPPED bpf_htonl(0xffff)
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

/* Where the network header is. */
#define L3 ETH_HLEN

enum kind {
	/* Of no concern: other protocols, other receivers. */
	OTHER,
	/* Goes up the stack, for the reason that has been counted. */
	LEFT,
	/* TCP or UDP. */
	TRANSPORT,
	/* ICMP in IPv4, ICMPv6 in IPv6. */
	CONTROL,
};

struct packet {
	struct tuple tuple;
	/* Where the transport header is. */
	__u32 l4;
	/* Of the network packet; of each that a GSO packet stands for. */
	__u32 length;
	__u8 is_ipv6;
	__u8 ttl;
	__u8 tos;
	__u8 tcp_flags;
	/* A fragment without the transport header. */
	__u8 is_headless;
	__u8 header_length;
	__u8 zero[2];
};

struct ipv6_fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

static __always_inline void map_ipv4(__u32 *address, __be32 ip)
{
	address[0] = 0;
	address[1] = 0;
	address[2] = IPV4_MAPPED;
	address[3] = ip;
}

static __always_inline void copy(__u32 *to, const __u32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline int is_same(const __u32 *one, const __u32 *other)
{
	return one[0] == other[0] && one[1] == other[1] && one[2] == other[2] && one[3] == other[3];
}

/* Remembers the ports for the fragments that follow, or recalls them. */
static __noinline int fragment(struct packet *packet, __u32 id, __u32 is_first)
{
	struct fragment_key key = {};
	struct fragment *known, ports;

	copy(key.from, packet->tuple.from);
	copy(key.to, packet->tuple.to);
	key.id = id;
	key.protocol = packet->tuple.protocol;
	if (is_first) {
		ports.from_port = packet->tuple.from_port;
		ports.to_port = packet->tuple.to_port;
		return bpf_map_update_elem(&gapi_fragments, &key, &ports, BPF_ANY);
	}
	known = bpf_map_lookup_elem(&gapi_fragments, &key);
	if (!known)
		return -1;
	packet->tuple.from_port = known->from_port;
	packet->tuple.to_port = known->to_port;
	packet->is_headless = 1;
	return 0;
}

/* Copies "length" bytes at "at", which is bounded: where the packet is in one piece, as it mostly is, without a call. */
static __always_inline int read(struct __sk_buff *skb, __u32 at, void *to, __u32 length)
{
	const void *from = (const void *)(long)skb->data + at, *end = (const void *)(long)skb->data_end;

	if (from + length > end)
		return bpf_skb_load_bytes(skb, at, to, length);
	__builtin_memcpy(to, from, length);
	return 0;
}

/* Reads the transport header, of which "room" bytes are there with what follows it. */
static __always_inline int transport(struct __sk_buff *skb, struct packet *packet, __u32 room, __u32 is_fragment)
{
	__u32 header;

	if (packet->tuple.protocol == IPPROTO_TCP) {
		struct tcphdr tcp;

		if (room < sizeof(tcp) || read(skb, packet->l4, &tcp, sizeof(tcp)))
			return -1;
		header = tcp.doff * 4;
		if (header < sizeof(tcp) || header > room)
			return -1;
		packet->tuple.from_port = tcp.source;
		packet->tuple.to_port = tcp.dest;
		packet->tcp_flags = ((__u8 *)&tcp)[13];
	} else {
		struct udphdr udp;
		__u32 length;

		header = sizeof(udp);
		if (room < sizeof(udp) || read(skb, packet->l4, &udp, sizeof(udp)))
			return -1;
		length = bpf_ntohs(udp.len);
		if (length < sizeof(udp) || (length > room && !is_fragment))
			return -1;
		packet->tuple.from_port = udp.source;
		packet->tuple.to_port = udp.dest;
	}
	if (skb->gso_size)
		packet->length = packet->l4 - L3 + header + skb->gso_size;
	return 0;
}

static __always_inline enum kind left(enum reason why)
{
	count(why);
	return LEFT;
}

static __always_inline enum kind parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;
	__u32 header, fragments;

	if (read(skb, L3, &ip, sizeof(ip)))
		return left(PASSED_MALFORMED);
	header = ip.ihl * 4;
	packet->length = bpf_ntohs(ip.tot_len);
	if (ip.version != 4 || header < sizeof(ip) || packet->length < header || packet->length > skb->len - L3)
		return left(PASSED_MALFORMED);
	map_ipv4(packet->tuple.from, ip.saddr);
	map_ipv4(packet->tuple.to, ip.daddr);
	packet->ttl = ip.ttl;
	packet->tos = ip.tos;
	packet->header_length = header;
	packet->l4 = L3 + header;
	packet->tuple.protocol = ip.protocol;
	fragments = bpf_ntohs(ip.frag_off) & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET);
	if (ip.protocol == IPPROTO_ICMP)
		return fragments ? left(PASSED_FRAGMENT) : CONTROL;
	if (ip.protocol != IPPROTO_TCP && ip.protocol != IPPROTO_UDP)
		return OTHER;
	if (fragments & IPV4_FRAGMENT_OFFSET)
		return fragment(packet, ip.id, 0) ? left(PASSED_FRAGMENT) : TRANSPORT;
	if (transport(skb, packet, packet->length - header, fragments))
		return left(PASSED_MALFORMED);
	if (fragments && fragment(packet, ip.id, 1))
		return left(PASSED_FRAGMENT);
	return TRANSPORT;
}

static __always_inline enum kind parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6_fragment part;
	struct ipv6hdr ip;
	__u32 room, fragments = 0;

	if (read(skb, L3, &ip, sizeof(ip)))
		return left(PASSED_MALFORMED);
	room = bpf_ntohs(ip.payload_len);
	packet->length = room + sizeof(ip);
	if (ip.version != 6 || packet->length > skb->len - L3)
		return left(PASSED_MALFORMED);
	__builtin_memcpy(packet->tuple.from, &ip.saddr, 16);
	__builtin_memcpy(packet->tuple.to, &ip.daddr, 16);
	packet->is_ipv6 = 1;
	packet->ttl = ip.hop_limit;
	packet->tos = ip.priority << 4 | ip.flow_lbl[0] >> 4;
	packet->header_length = sizeof(ip);
	packet->l4 = L3 + sizeof(ip);
	packet->tuple.protocol = ip.nexthdr;
	if (ip.nexthdr == IPPROTO_ICMPV6)
		return CONTROL;
	if (ip.nexthdr == IPPROTO_FRAGMENT) {
		if (room < sizeof(part) || bpf_skb_load_bytes(skb, packet->l4, &part, sizeof(part)))
			return left(PASSED_MALFORMED);
		room -= sizeof(part);
		packet->header_length += sizeof(part);
		packet->l4 += sizeof(part);
		packet->tuple.protocol = part.next;
		fragments = bpf_ntohs(part.offset) & 0xfff9;
	}
	/* Whatever has other extension headers is left to the stack. */
	if (packet->tuple.protocol != IPPROTO_TCP && packet->tuple.protocol != IPPROTO_UDP)
		return OTHER;
	if (fragments & 0xfff8)
		return fragment(packet, part.id, 0) ? left(PASSED_FRAGMENT) : TRANSPORT;
	if (transport(skb, packet, room, fragments))
		return left(PASSED_MALFORMED);
	if (fragments && fragment(packet, part.id, 1))
		return left(PASSED_FRAGMENT);
	return TRANSPORT;
}

/* "packet" is zero before. */
static __always_inline enum kind parse(struct __sk_buff *skb, struct packet *packet)
{
	/* PACKET_HOST: sent to this machine's link address. */
	if (skb->pkt_type != 0)
		return OTHER;
	/* A packet of a VLAN comes again at the interface of that VLAN; priority tags (VLAN 0) have none. */
	if (skb->vlan_present && (skb->vlan_tci & 0xfff))
		return OTHER;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, packet);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, packet);
	return OTHER;
}

#endif
