//! The kernel path: eBPF programs that carry layer-4 traffic to other machines past user space.

pub mod deny;
pub mod reuseport;

/// The object of `ebpf/forward.bpf.c`.
pub static FORWARD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forward.bpf.o"));
