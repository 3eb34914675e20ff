//! Server processes that never outlive the tests.
//!
//! Each runs under a small shell that reads from a pipe whose other end this process holds. When
//! this process ends, in whatever way, the pipe closes: the shell ends the server and removes its
//! folder. So a server may be shared by all tests in a `static`, which is never dropped.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `$1` the folder, `$2` the signal, then the command. A line on stdin ends the server only, the
/// end of stdin also removes the folder.
const KEEPER: &str = r#"
folder=$1 signal=$2
shift 2
"$@" </dev/null &
server=$!
if read -r line; then keep=yes; else keep=; fi
kill "-$signal" "$server"
wait "$server"
[ -n "$keep" ] || rm -rf "$folder"
"#;

/// A running server.
pub struct Process {
    keeper: Child,
}

impl Process {
    /// Starts `command`; what it prints goes to `log`. `signal` ends it quickly and cleanly.
    pub fn start(folder: &Path, signal: &str, log: &Path, command: &[String]) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(folder)
            .arg(signal)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // Ctrl-C at the terminal must not end the keeper before its server.
            .process_group(0)
            .spawn()
            .unwrap();
        Self { keeper }
    }

    /// Ends the server, keeps its folder, and returns when it has ended.
    pub fn stop(mut self) {
        let mut pipe = self.keeper.stdin.take().unwrap();
        pipe.write_all(b"stop\n").unwrap();
        self.keeper.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.keeper.stdin.take().is_some() {
            // The pipe is closed now; a failed wait leaves the keeper to do its work alone.
            drop(self.keeper.wait());
        }
    }
}

/// A folder of its own for one server, open to the user that the server runs as.
pub fn folder(prefix: &str) -> PathBuf {
    tempfile::Builder::new().prefix(prefix).tempdir().unwrap().keep()
}

/// Whether the tests run as root: servers then need to be told whom to run as.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A program that must be there. The panic says how to install it.
pub fn program(candidates: &[&str], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    candidates
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
        .unwrap_or_else(|| missing(candidates[0], package))
}

/// Fails the test that cannot run without `program`.
pub fn missing(program: &str, package: &str) -> ! {
    panic!("{program} is not installed; run scripts/setup, or: apt-get install {package}")
}

/// Runs a command to its end and returns what it printed; panics with its errors.
pub fn run(command: &mut Command, input: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Fed from beside: a program that prints much before it has read all must not block both.
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    feeder.join().unwrap().unwrap();
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
