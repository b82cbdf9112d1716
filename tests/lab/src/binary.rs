//! Where the programs under test are.

use std::path::PathBuf;

/// The `fakessh` that is tested: `$FAKESSH_BIN`, else the one that cargo built beside the test.
///
/// # Panics
/// If there is none; the message says how to get one.
pub fn fakessh() -> PathBuf {
    if let Some(path) = std::env::var_os("FAKESSH_BIN") {
        let path = PathBuf::from(path);
        assert!(
            path.is_absolute() && path.exists(),
            "FAKESSH_BIN={} is no program",
            path.display()
        );
        return path;
    }
    let test = std::env::current_exe().expect("the path of the test's own program");
    let found = test.ancestors().skip(1).take(2).map(|dir| dir.join("fakessh"));
    let found = found.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no fakessh beside {}: build it (cargo build --workspace, with the same profile as \
             the tests), or set FAKESSH_BIN to its absolute path",
            test.display()
        )
    })
}

/// An older `fakessh` that the benchmarks measure beside this one: `$FAKESSH_BEFORE`.
///
/// # Panics
/// If it names no program.
pub fn before() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("FAKESSH_BEFORE")?);
    assert!(
        path.is_absolute() && path.is_file(),
        "FAKESSH_BEFORE={} is no program",
        path.display()
    );
    Some(path)
}
