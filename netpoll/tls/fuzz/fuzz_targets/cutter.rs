#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| netpoll_tls::fuzzing::cutter(input));
