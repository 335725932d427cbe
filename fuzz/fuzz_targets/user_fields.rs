//! Any bytes against the law of `b24mirror::entity::fuzzing::user_fields`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| b24mirror::entity::fuzzing::user_fields(data));
