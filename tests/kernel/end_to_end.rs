//! Connections between network namespaces, through the gateway's kernel.
