#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    gridtests::fuzz::snapshot(bytes);
});
