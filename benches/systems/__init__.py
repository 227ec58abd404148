"""lshjoin and the systems beside it, each measured in a process of its own.

`measure` starts that process, which runs `worker`; `protocol` is what the two say to each other.
`peers/` has a module a system, and `ann-search-rs/` is a program that follows the same protocol. To
add a system: a subclass of `peer.Peer` in `peers/`, its name in `peers.PEERS`, its settings in
benches/comparison/sweeps.py.
"""
