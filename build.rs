//! Builds again when a migration is added: the compiler cannot see new files by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
