#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_config::fuzzing::parse_one_way(input));
