#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| dpdk_backend::fuzzing::frames(input));
