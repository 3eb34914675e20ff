//! Where the files are that come with mwid beside its programs: what a remedy names must be there.

use std::path::Path;

/// The folders of the source tree and where the Debian package has them; Cargo.toml says the same.
const FOLDERS: [(&str, &str); 3] = [
    ("sql/", "/usr/share/mwid/sql/"),
    ("etc/", "/usr/share/doc/mwid/examples/"),
    ("docs/", "/usr/share/doc/mwid/docs/"),
];

/// A file of the source tree, by the name that it has on this machine: where a package put it, or,
/// where it is not, as in the source tree.
#[must_use]
pub fn path(name: &str) -> String {
    below(Path::new("/"), name)
}

fn below(root: &Path, name: &str) -> String {
    let there = packaged(name).filter(|it| root.join(it.trim_start_matches('/')).exists());
    there.unwrap_or_else(|| name.to_owned())
}

/// Where the package puts it.
fn packaged(name: &str) -> Option<String> {
    let (folder, place) = FOLDERS.iter().find(|(folder, _)| name.starts_with(folder))?;
    Some(format!("{place}{}", &name[folder.len()..]))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The folder into which the package puts this file.
    fn asset(name: &str) -> String {
        let (folder, _) = name.rsplit_once('/').unwrap();
        let sources = [format!("\"{folder}/*\""), format!("\"{folder}/*.md\"")];
        let manifest = include_str!("../Cargo.toml");
        let is_it = |line: &&str| sources.iter().any(|source| line.contains(source));
        let line =
            manifest.lines().find(is_it).unwrap_or_else(|| panic!("no {name} in the package"));
        format!("/{}", line.split('"').nth(3).unwrap())
    }

    #[test]
    fn each_file_is_where_the_package_has_it_if_it_is_there() {
        let root = tempfile::tempdir().unwrap();
        for name in [
            "sql/mysql/index.sql",
            "sql/postgres/user.sql",
            "sql/sqlite/cluster.sql",
            "etc/asterisk/manager.conf",
            "etc/opensips/publish.cfg",
            "docs/troubleshooting.md",
        ] {
            assert_eq!(below(root.path(), name), name, "as in the source tree");
            let file = name.rsplit('/').next().unwrap();
            let packaged = format!("{}{file}", asset(name));
            let there = root.path().join(packaged.trim_start_matches('/'));
            fs::create_dir_all(there.parent().unwrap()).unwrap();
            fs::write(there, b"").unwrap();
            assert_eq!(below(root.path(), name), packaged);
        }
        assert_eq!(below(root.path(), "README.md"), "README.md");
    }
}
