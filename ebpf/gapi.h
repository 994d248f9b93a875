/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the programs and src/kernel/maps.rs both know. Each size is asserted here and there.
 *
 * Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d. Ports and addresses are in network order, all else in the machine's.
 * Whoever changes a type or the meaning of a field raises LAYOUT: programs of one layout share pinned maps.
 */
#ifndef GAPI_H
#define GAPI_H

#include <linux/types.h>

#define LAYOUT 2

#define SIZE_IS(type, size) _Static_assert(sizeof(type) == (size), #type " has another size than in maps.rs")

/* How many endpoints there can be; the first number stands for "user space". */
#define ENDPOINTS 16384
/* How many Maglev tables there can be. */
#define TABLES 4096

struct address {
	__u32 word[4];
};
SIZE_IS(struct address, 16);

/* A packet's addresses: the key of a connection. */
struct tuple {
	__u32 from[4];
	__u32 to[4];
	__be16 from_port;
	__be16 to_port;
	__u8 protocol;
	__u8 zero[3];
};
SIZE_IS(struct tuple, 40);

/* One direction of a connection: what the addresses of its packets become. The tuple of the other direction is this one's
 * "to" and "from", so that each entry leads to the other. */
struct connection {
	__u32 from[4];
	__u32 to[4];
	__be16 from_port;
	__be16 to_port;
	__u32 service;
	__u32 endpoint;
	/* Where packets leave when this machine does not forward in general, so that the FIB gives no answer. */
	__u32 interface;
	/* By CLOCK_MONOTONIC, in nanoseconds; late by up to "settle". */
	__u64 seen;
	__u16 flags;
	/* How many endpoints were tried before. */
	__u8 attempt;
	__u8 zero[5];
};
SIZE_IS(struct connection, 64);

/* The entry is of packets from the backend. */
#define REVERSE 1
/* The backend has spoken. */
#define ANSWERED 2
#define FIN_OF_CLIENT 4
#define FIN_OF_BACKEND 8
#define RESET 16
/* The endpoint is not there: the next packet of the client goes elsewhere. */
#define FAILED 32
/* There is no other endpoint. */
#define ALONE 64
/* User space has it: packets are passed up. */
#define IN_USER_SPACE 128
/* Of a service that keeps the client's address. */
#define KEPT_CLIENT 256
/* It is in gapi_connections, not in gapi_brief. */
#define LASTING 512
/* Those that both directions have in common. */
#define SHARED (ANSWERED | FIN_OF_CLIENT | FIN_OF_BACKEND | RESET | FAILED)

/* What a listener is bound to; the unspecified address stands for all of this machine's of its family. */
struct service_key {
	__u32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 zero;
};
SIZE_IS(struct service_key, 20);

struct service {
	__u32 id;
	/* The place of its Maglev table, and how many slots that has: never written while a service names it. */
	__u32 table;
	__u32 slots;
	__u32 flags;
};
SIZE_IS(struct service, 16);

/* A flag of a service: backends see the client's address, and route back through this machine. */
#define KEEP_CLIENT 1

struct endpoint {
	__u32 address[4];
	/* This machine's address toward it. */
	__u32 source[4];
	__be16 port;
	__u16 zero;
	__u32 interface;
	__u32 service;
	__u32 zero2;
};
SIZE_IS(struct endpoint, 48);

/* Per endpoint and processor. */
struct traffic {
	__u64 connections;
	__u64 packets_to;
	__u64 bytes_to;
	__u64 packets_from;
	__u64 bytes_from;
	/* Connections that did not come about. */
	__u64 failed;
};
SIZE_IS(struct traffic, 48);

/* All times in nanoseconds. */
struct settings {
	__u32 layout;
	/* For the choice by hash: other machines with the same value choose the same. */
	__u32 seed;
	/* Source ports toward backends, both inclusive. */
	__u16 port_low;
	__u16 port_high;
	__u32 zero;
	/* How late "seen" may be. */
	__u64 settle;
	/* How long silence may last: before the backend has answered, ... */
	__u64 tcp_opening;
	__u64 tcp_idle;
	/* ... when one side is done, ... */
	__u64 tcp_half_closed;
	/* ... when both are, or after a reset. */
	__u64 tcp_closed;
	__u64 udp_idle;
	__u64 udp_answered;
};
SIZE_IS(struct settings, 72);

/* The ports of a datagram whose fragments follow. */
struct fragment_key {
	__u32 from[4];
	__u32 to[4];
	__u32 id;
	__u8 protocol;
	__u8 zero[3];
};
SIZE_IS(struct fragment_key, 40);

struct fragment {
	__be16 from_port;
	__be16 to_port;
};
SIZE_IS(struct fragment, 4);

/* What became of packets that were not sent on. "Passed": up the stack, where user space may have them. */
enum reason {
	PASSED_MALFORMED,
	PASSED_FRAGMENT,
	PASSED_UNKNOWN,
	PASSED_CHOSEN,
	PASSED_NO_PORT,
	PASSED_RETRIED,
	PASSED_NO_ROUTE,
	DROPPED_REFUSED,
	DROPPED_NO_ROUTE,
	DROPPED_UNSENDABLE,
	ANSWERED_TOO_BIG,
	ANSWERED_TIME_EXCEEDED,
	REASONS,
};

#endif
