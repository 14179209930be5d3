//! What the backend keeps beside its connections. The files of its turn (`accept`, `receive`,
//! `send`) say what becomes of it.

pub(super) mod accepts;
pub(super) mod receives;
pub(super) mod sends;
