/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Layer-4 load balancing, at ingress: packets of clients go to endpoints on other machines, their answers back.
 *
 * Whatever is not understood, or is nothing for this path, goes up the stack unchanged (TC_ACT_UNSPEC lets programs of
 * others see it too): user space has a socket for each service.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "control.h"

static __always_inline int pass(enum reason why)
{
	count(why);
	return TC_ACT_UNSPEC;
}

static __always_inline int drop(enum reason why)
{
	count(why);
	return TC_ACT_SHOT;
}

/* What a packet says about its connection. */
static __always_inline __u32 said(const struct packet *packet, const struct connection *c)
{
	__u32 said = c->flags & REVERSE ? ANSWERED : 0;

	if (packet->tuple.protocol != IPPROTO_TCP)
		return said;
	if (packet->tcp_flags & TCP_RST)
		said |= RESET;
	if (packet->tcp_flags & TCP_FIN)
		said |= c->flags & REVERSE ? FIN_OF_BACKEND : FIN_OF_CLIENT;
	return said;
}

static __always_inline void count_traffic(struct __sk_buff *skb, const struct connection *c)
{
	__u32 number = c->endpoint, packets = skb->gso_segs ?: 1;
	struct traffic *traffic = bpf_map_lookup_elem(&gapi_traffic, &number);

	if (!traffic)
		return;
	if (c->flags & REVERSE) {
		traffic->packets_from += packets;
		traffic->bytes_from += skb->len - L3;
	} else {
		traffic->packets_to += packets;
		traffic->bytes_to += skb->len - L3;
	}
}

static __always_inline void count_failure(const struct connection *c)
{
	__u32 number = c->endpoint;
	struct traffic *traffic = bpf_map_lookup_elem(&gapi_traffic, &number);

	if (traffic)
		traffic->failed += 1;
}

/* A packet of a connection that is known. */
static __noinline int carry(struct __sk_buff *skb, struct packet *packet, struct connection *c, __u64 settle, __u64 time)
{
	struct route route = {};
	__u32 says = said(packet, c);
	int way;

	if (packet->ttl <= 1)
		return answer(skb, packet, 0);
	way = find_way(skb, packet, c, &route);
	if (way == TOO_BIG)
		return answer(skb, packet, route.mtu);
	if (way == NOWHERE) {
		/* Nothing has been said yet: user space may know a way. */
		if (!(c->flags & (REVERSE | ANSWERED))) {
			count_failure(c);
			forget(&packet->tuple, c);
			return pass(PASSED_NO_ROUTE);
		}
		return drop(DROPPED_NO_ROUTE);
	}
	if (says & RESET && c->flags & REVERSE && !(c->flags & (ANSWERED | ALONE))) {
		/* Refused, and there are others: the client's next SYN goes to one of them. */
		count_failure(c);
		note(skb, &packet->tuple, c, FAILED);
		return drop(DROPPED_REFUSED);
	}
	if ((c->flags | says) != c->flags || time - c->seen > settle)
		note(skb, &packet->tuple, c, says);
	count_traffic(skb, c);
	if (rewrite(skb, packet, c))
		return drop(DROPPED_UNSENDABLE);
	if (is_misplaced(packet, c))
		move(&packet->tuple, c);
	return send(skb, way, &route);
}

/* A packet that may begin a connection with a service. */
static __noinline int begin(struct __sk_buff *skb, struct packet *packet, __u32 attempt)
{
	struct service *service = find_service(packet);
	const struct settings *set = settings();
	struct connection *c;

	if (!service || !set)
		return TC_ACT_UNSPEC;
	if (packet->tuple.protocol == IPPROTO_TCP &&
	    (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN)
		return pass(PASSED_UNKNOWN);
	if (packet->ttl <= 1 || packet->is_headless || !is_usual_source(packet))
		return pass(PASSED_CHOSEN);
	switch (make(skb, packet, service, attempt)) {
	case MADE:
		break;
	case NO_PORT:
		return pass(PASSED_NO_PORT);
	default:
		return pass(PASSED_CHOSEN);
	}
	c = bpf_map_lookup_elem(&gapi_brief, &packet->tuple);
	return c ? carry(skb, packet, c, set->settle, now()) : pass(PASSED_NO_PORT);
}

/* A packet of a client for which there is an entry: whether that is of another, older connection. */
static __always_inline int is_anew(const struct packet *packet, const struct connection *c)
{
	if (packet->tuple.protocol != IPPROTO_TCP)
		return 0;
	if ((packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN)
		return 0;
	return has_ended(c);
}

/* A SYN that comes again because nobody answered, or the endpoint refused. */
static __always_inline int is_retried(const struct packet *packet, const struct connection *c, __u64 time)
{
	if (packet->tuple.protocol != IPPROTO_TCP || c->flags & (REVERSE | ANSWERED))
		return 0;
	if (!(packet->tcp_flags & TCP_SYN))
		return 0;
	return c->flags & FAILED || (time > c->seen && time - c->seen > RETRIED_AFTER);
}

SEC("classifier")
int gapi_forward(struct __sk_buff *skb)
{
	struct packet packet = {};
	const struct settings *set;
	struct connection *c;
	__u32 attempt = 0;
	__u64 time;

	switch (parse(skb, &packet)) {
	case TRANSPORT:
		break;
	case CONTROL:
		return control(skb, &packet);
	default:
		return TC_ACT_UNSPEC;
	}
	set = settings();
	if (!set)
		return TC_ACT_UNSPEC;
	c = find(&packet.tuple);
	if (!c)
		return begin(skb, &packet, 0);
	time = now();
	if (is_over(c, packet.tuple.protocol, set, time) || is_anew(&packet, c)) {
		forget(&packet.tuple, c);
		return begin(skb, &packet, 0);
	}
	if (c->flags & IN_USER_SPACE) {
		if (time - c->seen > set->settle)
			note(skb, &packet.tuple, c, 0);
		return pass(PASSED_CHOSEN);
	}
	if (is_retried(&packet, c, time)) {
		/* User space knows which endpoints are there, and has the patience to try them. */
		if (!(c->flags & FAILED))
			count_failure(c);
		forget(&packet.tuple, c);
		return pass(PASSED_RETRIED);
	}
	if (c->flags & FAILED && !(c->flags & REVERSE) && packet.tuple.protocol == IPPROTO_UDP) {
		attempt = c->attempt + 1;
		count_failure(c);
		forget(&packet.tuple, c);
		return begin(skb, &packet, attempt);
	}
	return carry(skb, &packet, c, set->settle, time);
}

char LICENSE[] SEC("license") = "GPL";
