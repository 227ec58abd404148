//! Arrays in files and in memory: checksummed, mapped, replaced as a whole. The only layer that
//! knows files. Uses [`base`](crate::base); begin with [`directory`].

pub(crate) mod array;
pub(crate) mod directory;
pub(crate) mod files;
pub(crate) mod format;
pub(crate) mod layout;
pub(crate) mod manifest;
pub(crate) mod spill;
pub(crate) mod writer;
