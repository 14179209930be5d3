//! Handshakes and streams with rustls' client, in memory.

mod choices;
mod connecting;
mod hostile;
mod lanes;
mod peers;
mod streams;
