//! gapi: Gateway API semantics without Kubernetes, for one Linux machine.
//!
//! The daemon reads Kubernetes Gateway API manifests from a directory, serves the traffic that they describe, and writes
//! the status that a cluster would have shown.
//!
//! # One pass
//!
//! ```text
//!  files ──watch──▶ tree ──parse──▶ objects ──resolve──▶ graph ──plan──▶ plan ──compile──▶ snapshot ──publish──▶ sockets
//!                     manifest/                graph/            plan/        compile/               publish, dataplane/
//!                                                 │                                                       │
//!                                                 └───────────────────▶ report ◀──────────────────────────┘
//!                                                                       status/
//! ```
//!
//! The [`daemon`] is a function called again and again: files in, a snapshot and findings out; the same input gives the
//! same output. Only the ends do I/O (watch, publish, report); the stages between are pure and never fail: what is wrong
//! with a document is a [`finding`], and what can still be served is served.
//!
//! - [`manifest`]: *watch* and *parse*. Files become admitted, defaulted objects, each with its place; the accepted-object
//!   store keeps the last good version of each.
//! - [`graph`]: *resolve*. What attaches to what, which references are granted, every condition and its reason.
//! - [`mod@plan`]: *plan*. Sockets, hosts, ordered matches, backends; no word of the Gateway API is left.
//! - [`mod@compile`]: *compile*, the one bridge from plan to [`snapshot`], which the data plane reads.
//! - [`publish`] and [`dataplane`]: sockets are bound, the snapshot is swapped, requests are served.
//! - `kernel`: the eBPF programs that carry layer-4 traffic to other machines, and what the snapshot tells them.
//! - [`deny`] stands beside the pass: the deny list's file, put in force without one.
//! - [`certificate`] stands beside the pass: it makes the certificates that the graph wants, writes them as Secrets into
//!   its store, and causes a pass; a pending challenge is part of the plan.
//! - [`status`]: *report*. The graph's conditions written down, never computed a second time.
//! - [`cli`], [`view`], [`observe`]: what people see of it. [`durable`]: files that are whole after a crash.
//!
//! # Import rule
//!
//! `api`, `snapshot`, `observe` and `durable` import nothing from the crate; `compile` alone sees both the plan and the snapshot; the
//! data plane never sees a Gateway API type, the control plane never sees a socket. `tests/architecture.rs` has the table.
//!
//! # Decisions
//!
//! Where the code differs from the plan of record, and why.
//!
//! - 2026-11-24: core kinds (Service, Secret, …) are small types of our own, not those of `k8s-openapi`: admission needs
//!   its own table of field names either way, since that crate ignores unknown ones, and a cold build is 17 s shorter.
//! - 2026-11-24: a file that is being written (opened and not yet closed) keeps what was last read of it for up to a second:
//!   a document that is not there yet would else count as deleted.
//! - 2026-11-24: the accepted-object store has one file for each object; more than eight changes at once are made durable by
//!   one `syncfs` instead of an fsync each.
//! - 2026-11-24: the fsyncs of the store run beside resolve and compile, and the report beside the loop.
//! - 2026-11-24: a pass takes over what did not change since the one before: files, accepted objects, routes and backends
//!   about which there is nothing to say (`graph::known`), hosts (`plan::Hosts`). Recomputing them whole took 6 to 9 µs a
//!   route; `tests/known.rs` and those of `daemon::source` hold that it comes to the same. `make bench-reload` with 3,000
//!   routes on a busy machine of two cores, this and an earlier build in turn, from rename to served, least and
//!   median: a route on its own host 33/63 → 15/22 ms, one EndpointSlice changed 64/82 → 16/21. Half of what is left is
//!   one `stat` a file and who can have written it. On the quiet machine: own hosts 12.8/15.7, one shared host 13.6/18.5,
//!   a route with its own Service and EndpointSlice 17.6/24.9, one EndpointSlice 15.2/22.8. So the 17 ms that are wanted
//!   are the median of the first case, and about the best of the others.
//! - 2026-11-24: every look still visits every file. Events could name the one that changed, but hard links, swapped
//!   directories and lost events are then noticed by the slow poll alone.
//! - 2026-11-24: a Service of the user's with the name of the one that gapi shows for a Gateway is theirs alone: it is
//!   routed to, the generated one is left out, and a warning says so. With the generated one's label it is that one.
//! - 2026-11-24: links are followed when all else is read, and a file counts once for each set of people who put it somewhere
//!   (`manifest/role`): else whoever links to a file, under a name that comes first, would take it from its own place.
//! - 2026-11-24: the budget of 1.6 times the bare relay is reached since short sends wait for the end of a worker's turn:
//!   1.54 and 1.59 in two runs on the quiet machine (17.1 µs against 10.7; nginx 1.68 and 1.73, HAProxy 1.63 and 1.79).
//! - 2026-11-24: releases are built with fat LTO in one unit: 8 % fewer instructions a request and a program smaller by a
//!   fifth, for some minutes of building.
//! - 2026-11-24: instant-acme goes without the HTTP client that it brings: ours bounds time and size, and sees the
//!   Retry-After of refusals. Account keys are ECDSA on P-256, the one kind that the library signs with.
//! - 2026-11-24: two requests to ACME servers are signed here (`certificate::acme::signed`): the library makes the key that
//!   is to follow itself, so it could not be on disk before the server knows it; and it asks for the default chain alone.
//! - 2026-11-24: the deny list in the kernel drops packets to gapi's own listeners alone, as user space does: a list with
//!   0.0.0.0/0 must not cost anybody their SSH, nor a backend's network its answers.
//! - 2026-11-24: XDP is for network cards. On a veth it cost bulk traffic three quarters (iperf3 into it, 9.0 → 2.4 Gbit/s): its
//!   peer sends no long segments any more, and the packet is a socket buffer already. There it is tc.
//! - 2026-11-24: only links of the deny list are pinned. A new run brings its own program with maps that are complete and
//!   exchanges it behind the link; nothing of an earlier version's layout is ever read.
//! - 2026-11-24: of 100,000 prefixes, one that changes is in force after 10 ms in user space and 12 ms in the kernel (IPv6: 21
//!   and 26), optimized and on a core of its own; most of it is reading the file. A list that is another altogether
//!   takes the kernel 190 ms, 1.9 µs a prefix, while user space denies already.
//! - 2026-11-24: connections go to the workers in turn: 100 from one client are 50 and 50, where the hash gave 42 to 58, and
//!   the receiving core 100 to 0: workers are not bound to cores, and a client or a card's queue is one core. The choice
//!   costs no connect that could be measured (16.4 to 17.7 µs on loopback with each of the three).
//! - 2026-11-24: a TLS handshake for a name that nobody has is reset where all listeners of the port pass TLS through, as the
//!   official suite asks for (an alert is no rejection to it); where TLS ends at a listener of the port, it gets its alert.
//! - 2026-11-24: an HTTPRoute and a GRPCRoute with a hostname in common at a listener: the older one has it, and the other is
//!   not Accepted there, with a reason of gapi's own, `HostnameConflict`, since v1.7 has none for it.
//! - 2026-11-24: the method matches of GRPCRoutes go by service, then method, names before expressions before none: two
//!   names that match one call are as long as each other, so that characters count among expressions alone.
//! - 2026-11-24: a call to an invalid backendRef is answered UNAVAILABLE, as v1.7 demands (GRPCRouteRule.backendRefs).
//! - 2026-11-24: HTTP/2 backends are pinged every five and a half minutes, no sooner, and TCP's own timeouts find those that
//!   are gone: servers of gRPC end a connection that is pinged more often, which cut silent calls off after 80 seconds.
//! - 2026-11-24: a call of gRPC costs 1.25 times what it costs HAProxy (12.7 µs against 10.2) and a third of nginx, since futures
//!   are moved less (1.51 before). It has few system calls; what is left are h2 and hyper: a table entry, a task and several
//!   moves for each stream.
//! - 2026-11-24: with `--kernel auto` no program is loaded before a TCP or UDP listener has an endpoint on another machine.
//!   The packaged service has no privilege for it unless the drop-in is installed: what goes that way passes no nftables.
//! - 2026-11-24: connections that last have a table of their own in the kernel: in one table for all, 3,000 SYNs and as many
//!   connections that had ended pushed out all of 100 silent ones, where there was room for 1,024.
//! - 2026-11-24: of a listener that the kernel carries in part, the programs note what they left to user space, which then
//!   chooses among its own endpoints alone: chosen anew among all, a share of 25 % had become 6.
//! - 2026-11-24: the drop-in names the two directories that pins are in: ProtectKernelTunables= wins over a ReadWritePaths= of
//!   /sys/fs/bpf itself, and the service stayed in user space. Pinned maps are opened by name, since by number it takes
//!   CAP_SYS_ADMIN.
//! - 2026-11-24: the kernel path tells which way traffic takes after the pass, and status alone is written anew then. Until
//!   it has, the condition stands with the generation that it was said of: leaving it out would lose its time at each edit.
//! - 2026-11-24: what is left of a request over HTTP/2 is read for a second when its answer is there: the reset that RFC 9113
//!   allows made curl throw away one answer in four.

pub mod api;
pub mod certificate;
pub mod cli;
pub mod compile;
pub mod daemon;
pub mod dataplane;
pub mod deny;
pub mod durable;
pub mod finding;
pub mod graph;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod manifest;
pub mod observe;
pub mod plan;
pub mod publish;
pub mod snapshot;
pub mod status;
pub mod view;
