/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Connections: found, made, kept up to date. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include "packet.h"

/* How many source ports are tried for a connection. */
#define PORTS_TRIED 16
/* A SYN that comes again so much later was not answered, in nanoseconds. */
#define RETRIED_AFTER 500000000ull

static __always_inline __u64 now(void)
{
	return bpf_ktime_get_coarse_ns();
}

static __always_inline int has_ended(const struct connection *c)
{
	return c->flags & RESET || (c->flags & FIN_OF_CLIENT && c->flags & FIN_OF_BACKEND);
}

/* How long its silence may last. */
static __always_inline __u64 lifetime(const struct connection *c, __u8 protocol, const struct settings *set)
{
	if (protocol == IPPROTO_UDP)
		return c->flags & (ANSWERED | IN_USER_SPACE) ? set->udp_answered : set->udp_idle;
	if (has_ended(c))
		return set->tcp_closed;
	if (c->flags & (FIN_OF_CLIENT | FIN_OF_BACKEND))
		return set->tcp_half_closed;
	return c->flags & ANSWERED ? set->tcp_idle : set->tcp_opening;
}

static __always_inline int is_over(const struct connection *c, __u8 protocol, const struct settings *set, __u64 time)
{
	/* Other processors' clocks may be a tick ahead. */
	return time > c->seen && time - c->seen > lifetime(c, protocol, set);
}

/* The tuple of the other direction. */
static __always_inline void other_way(struct tuple *other, const struct tuple *tuple, const struct connection *c)
{
	copy(other->from, c->to);
	copy(other->to, c->from);
	other->from_port = c->to_port;
	other->to_port = c->from_port;
	other->protocol = tuple->protocol;
	other->zero[0] = other->zero[1] = other->zero[2] = 0;
}

static __always_inline struct connection *find(const struct tuple *tuple)
{
	struct connection *c = bpf_map_lookup_elem(&gapi_connections, tuple);

	return c ?: bpf_map_lookup_elem(&gapi_brief, tuple);
}

/* Where its flags say that it belongs. */
static __always_inline long put(const struct tuple *tuple, const struct connection *c, __u64 how)
{
	return c->flags & LASTING ? bpf_map_update_elem(&gapi_connections, tuple, c, how)
				  : bpf_map_update_elem(&gapi_brief, tuple, c, how);
}

static __noinline void forget(const struct tuple *tuple, const struct connection *c)
{
	struct tuple other;

	other_way(&other, tuple, c);
	bpf_map_delete_elem(&gapi_connections, &other);
	bpf_map_delete_elem(&gapi_connections, tuple);
	bpf_map_delete_elem(&gapi_brief, &other);
	bpf_map_delete_elem(&gapi_brief, tuple);
}

/*
 * Whether the connection is in the table where it does not belong. It lasts from when the client goes on after the
 * backend's answer: whoever only asks, under an address that may not be its own, has shown nothing.
 */
static __always_inline int is_misplaced(const struct packet *packet, const struct connection *c)
{
	if (c->flags & LASTING)
		return has_ended(c);
	return c->flags & ANSWERED && !(c->flags & (REVERSE | FAILED | RESET | FIN_OF_CLIENT | FIN_OF_BACKEND)) &&
	       !(packet->tcp_flags & TCP_SYN);
}

/* Moves both directions to the other table. What "c" points to may be another connection's then. */
static __noinline void move(const struct tuple *tuple, const struct connection *c)
{
	struct connection moved = *c, *partner;
	__u16 flags = c->flags ^ LASTING;
	struct tuple other;

	other_way(&other, tuple, c);
	partner = flags & LASTING ? bpf_map_lookup_elem(&gapi_brief, &other)
				  : bpf_map_lookup_elem(&gapi_connections, &other);
	/* It was evicted: note() makes it again, where this one is. */
	if (!partner)
		return;
	moved.flags = flags;
	put(tuple, &moved, BPF_ANY);
	moved = *partner;
	moved.flags = flags ^ REVERSE;
	put(&other, &moved, BPF_ANY);
	if (flags & LASTING) {
		bpf_map_delete_elem(&gapi_brief, tuple);
		bpf_map_delete_elem(&gapi_brief, &other);
	} else {
		bpf_map_delete_elem(&gapi_connections, tuple);
		bpf_map_delete_elem(&gapi_connections, &other);
	}
}

/*
 * Notes that a packet came, and what it says, in both directions; a direction that was evicted is made again.
 */
static __noinline void note(struct __sk_buff *skb, const struct tuple *tuple, struct connection *c, __u32 said)
{
	struct tuple other;
	struct connection *partner, made = {};
	__u64 time = now();
	struct endpoint *endpoint;
	__u32 number = c->endpoint, way;

	c->seen = time;
	c->flags |= said;
	if (c->flags & IN_USER_SPACE)
		return;
	endpoint = bpf_map_lookup_elem(&gapi_endpoints, &number);
	way = endpoint && endpoint->service == c->service ? endpoint->interface : c->interface;
	if (!(c->flags & REVERSE))
		c->interface = way;
	other_way(&other, tuple, c);
	partner = find(&other);
	if (partner) {
		partner->seen = time;
		partner->flags |= said;
		if (!(c->flags & REVERSE))
			partner->interface = skb->ifindex;
		return;
	}
	copy(made.from, tuple->to);
	copy(made.to, tuple->from);
	made.from_port = tuple->to_port;
	made.to_port = tuple->from_port;
	made.service = c->service;
	made.endpoint = c->endpoint;
	made.seen = time;
	made.flags = c->flags ^ REVERSE;
	made.attempt = c->attempt;
	made.interface = c->flags & REVERSE ? way : skb->ifindex;
	put(&other, &made, BPF_NOEXIST);
}

static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	hash = (hash ^ word) * 0x9e3779b1;
	return hash ^ hash >> 15;
}

/* The same for all packets of a connection, on all machines with the same seed. */
static __always_inline __u32 hash(const struct tuple *tuple, __u32 seed)
{
	__u32 hash = seed;

	for (int i = 0; i < 4; i++)
		hash = mix(hash, tuple->from[i]);
	for (int i = 0; i < 4; i++)
		hash = mix(hash, tuple->to[i]);
	hash = mix(hash, (__u32)tuple->from_port << 16 | tuple->to_port);
	hash = mix(hash, tuple->protocol);
	return mix(hash, hash >> 13);
}

/* Whether the address is one that connections come from, as far as the kernel path is concerned. */
static __always_inline int is_usual_source(const struct packet *packet)
{
	const __u8 *bytes = (const __u8 *)packet->tuple.from;

	if (bpf_map_lookup_elem(&gapi_addresses, packet->tuple.from))
		return 0;
	if (!packet->is_ipv6)
		return bytes[12] != 0 && bytes[12] != 127 && bytes[12] < 224;
	/* Not multicast, link-local, ::1 or an embedded IPv4 address. */
	return bytes[0] != 0xff && !(bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) &&
	       (packet->tuple.from[0] | packet->tuple.from[1]);
}

/* The service that the packet is for, if any. */
static __noinline struct service *find_service(const struct packet *packet)
{
	struct service_key key = {};
	struct service *service;
	__u32 zero = 0;
	void *services = bpf_map_lookup_elem(&gapi_services, &zero);

	if (!services)
		return NULL;
	copy(key.address, packet->tuple.to);
	key.port = packet->tuple.to_port;
	key.protocol = packet->tuple.protocol;
	service = bpf_map_lookup_elem(services, &key);
	if (service)
		return service;
	if (packet->is_ipv6)
		key.address[0] = key.address[1] = key.address[2] = 0;
	key.address[3] = 0;
	service = bpf_map_lookup_elem(services, &key);
	if (service && !bpf_map_lookup_elem(&gapi_addresses, packet->tuple.to))
		return NULL;
	return service;
}

/* The number of an endpoint by Maglev; 0 for user space. */
static __always_inline __u32 choose(const struct tuple *tuple, const struct service *service, __u32 seed, __u32 attempt)
{
	__u32 place = service->table, slot, *chosen;
	void *table = bpf_map_lookup_elem(&gapi_tables, &place);

	if (!table || !service->slots)
		return 0;
	slot = mix(hash(tuple, seed), attempt * 0x85ebca6b) % service->slots;
	chosen = bpf_map_lookup_elem(table, &slot);
	return chosen ? *chosen : 0;
}

enum made {
	MADE,
	/* User space has it. */
	CHOSEN_USER_SPACE,
	NO_PORT,
};

/* Remembers that user space has it: it keeps it when the table changes, and user space knows that it is of its share. */
static __noinline int leave(const struct packet *packet, const struct service *service)
{
	struct connection c = {};

	c.service = service->id;
	c.seen = now();
	c.flags = IN_USER_SPACE;
	bpf_map_update_elem(&gapi_brief, &packet->tuple, &c, BPF_ANY);
	return CHOSEN_USER_SPACE;
}

/* Chooses an endpoint and a source port, and makes both entries. */
static __noinline int make(struct __sk_buff *skb, const struct packet *packet, const struct service *service, __u32 attempt)
{
	const struct settings *set = settings();
	struct endpoint *endpoint;
	struct connection c = {};
	struct tuple back = {};
	__u32 number, low, span, start, port;
	struct traffic *traffic;
	int i;

	if (!set)
		return CHOSEN_USER_SPACE;
	number = choose(&packet->tuple, service, set->seed, attempt);
	endpoint = number ? bpf_map_lookup_elem(&gapi_endpoints, &number) : NULL;
	if (!endpoint || endpoint->service != service->id)
		return leave(packet, service);

	copy(back.from, endpoint->address);
	back.from_port = endpoint->port;
	back.protocol = packet->tuple.protocol;
	copy(c.from, packet->tuple.to);
	copy(c.to, packet->tuple.from);
	c.from_port = packet->tuple.to_port;
	c.to_port = packet->tuple.from_port;
	c.service = service->id;
	c.endpoint = number;
	c.interface = skb->ifindex;
	c.seen = now();
	c.attempt = attempt;
	c.flags = REVERSE | (service->slots == 1 ? ALONE : 0);
	if (service->flags & KEEP_CLIENT) {
		c.flags |= KEPT_CLIENT;
		copy(back.to, packet->tuple.from);
		back.to_port = packet->tuple.from_port;
		if (find(&back) || bpf_map_update_elem(&gapi_brief, &back, &c, BPF_NOEXIST))
			return NO_PORT;
	} else {
		copy(back.to, endpoint->source);
		low = set->port_low;
		span = set->port_high >= low ? set->port_high - low + 1 : 1;
		start = bpf_get_prandom_u32();
		for (i = 0; i < PORTS_TRIED; i++) {
			struct connection *other;

			/* Golden-ratio steps: neighbours of a busy port are busy too. */
			port = low + (start + i * 0x9e37) % span;
			back.to_port = bpf_htons(port);
			other = find(&back);
			if (other) {
				if (!is_over(other, back.protocol, set, c.seen))
					continue;
				forget(&back, other);
			}
			if (!bpf_map_update_elem(&gapi_brief, &back, &c, BPF_NOEXIST))
				break;
		}
		if (i == PORTS_TRIED)
			return NO_PORT;
	}
	copy(c.from, back.to);
	copy(c.to, back.from);
	c.from_port = back.to_port;
	c.to_port = back.from_port;
	c.interface = endpoint->interface;
	c.flags &= ~REVERSE;
	if (bpf_map_update_elem(&gapi_brief, &packet->tuple, &c, BPF_ANY)) {
		bpf_map_delete_elem(&gapi_brief, &back);
		return NO_PORT;
	}
	traffic = bpf_map_lookup_elem(&gapi_traffic, &number);
	if (traffic)
		traffic->connections += 1;
	return MADE;
}

#endif
