//! Fuzz bodies: any bytes in, an assertion fails where an oracle does.
