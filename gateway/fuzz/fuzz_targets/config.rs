#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway::config::fuzzing::parse_one_way(input));
