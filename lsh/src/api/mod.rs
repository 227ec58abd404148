//! What a Rust user calls. Uses every other layer; nothing uses it.

pub(crate) mod suggest;
