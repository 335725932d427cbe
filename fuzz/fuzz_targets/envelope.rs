//! Any bytes against the law of `b24mirror::portal::fuzzing::envelope`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| b24mirror::portal::fuzzing::envelope(data));
