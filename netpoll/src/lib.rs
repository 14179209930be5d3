//! Moves bytes; knows no protocol.
