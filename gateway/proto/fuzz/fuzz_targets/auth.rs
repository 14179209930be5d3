#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_proto::fuzzing::auth(input));
