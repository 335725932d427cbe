//! What the fuzzers have found and what they start from, as ordinary tests.

use std::{fs, path::Path};

/// Puts every file of a fuzz target's corpus before the target's law.
pub(crate) fn replay(target: &str, law: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = 0;
    for file in fs::read_dir(&corpus).unwrap() {
        let path = file.unwrap().path();
        let data = fs::read(&path).unwrap();
        let held = std::panic::catch_unwind(|| law(&data)).is_ok();
        assert!(held, "{} breaks the law of {target}", path.display());
        files += 1;
    }
    assert!(files >= 5, "{files} files in {}", corpus.display());
}
