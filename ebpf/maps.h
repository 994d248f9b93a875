/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The maps of the forward path, pinned by name. */
#ifndef MAPS_H
#define MAPS_H

#include "gapi.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gapi_settings SEC(".maps");

/* Both directions of each connection that lasts: whoever is not there is in the next. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 262144);
	__type(key, struct tuple);
	__type(value, struct connection);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gapi_connections SEC(".maps");

/*
 * Likewise, of those that begin and those that have ended: however many there are, none takes the place of one that
 * lasts.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct tuple);
	__type(value, struct connection);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gapi_brief SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gapi_fragments SEC(".maps");

/* One slot: the services of the generation in force. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 1);
		/* By size: clang leaves types that only an inner map names undefined. */
		__uint(key_size, sizeof(struct service_key));
		__uint(value_size, sizeof(struct service));
	});
} gapi_services SEC(".maps");

/* Maglev tables: a slot has the number of an endpoint, or 0 for user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TABLES);
	__type(key, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 1);
		__uint(map_flags, BPF_F_INNER_MAP);
		__uint(key_size, 4);
		__uint(value_size, 4);
	});
} gapi_tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENDPOINTS);
	__type(key, __u32);
	__type(value, struct endpoint);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gapi_endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ENDPOINTS);
	__type(key, __u32);
	__type(value, struct traffic);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gapi_traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gapi_reasons SEC(".maps");

/* This machine's own addresses. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} gapi_addresses SEC(".maps");

static __always_inline void count(enum reason reason)
{
	__u32 index = reason;
	__u64 *packets = bpf_map_lookup_elem(&gapi_reasons, &index);

	if (packets)
		*packets += 1;
}

static __always_inline const struct settings *settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&gapi_settings, &zero);
}

#endif
