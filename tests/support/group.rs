//! A server with its children: all of them end when the test does, however it ends.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A process that leads a process group of its own.
///
/// Dropping it kills the whole group. If the test process itself is killed and drops nothing, the
/// guard does it: a shell that waits for the end of a pipe which only the test process holds open.
#[derive(Debug)]
pub struct Group {
    leader: Child,
    guard: Child,
}

impl Group {
    /// Starts `command` as the leader of a new group.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut leader = command.process_group(0).stdin(Stdio::null()).spawn()?;
        let guard = Command::new("sh")
            .args(["-c", r#"read -r _; kill -KILL "-$1""#, "guard", &leader.id().to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match guard {
            Ok(guard) => Ok(Self { leader, guard }),
            Err(error) => {
                leader.kill()?;
                leader.wait()?;
                Err(error)
            }
        }
    }

    /// The leader's process id, which is the group's too.
    pub fn id(&self) -> Pid {
        Pid::from_raw(self.leader.id().cast_signed())
    }

    /// How the leader ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.leader.try_wait().expect("the leader is our child")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The guard first: once the leader is waited for, its number may belong to someone else.
        // Errors mean that a process is gone already, which is what is wanted.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = killpg(self.id(), Signal::SIGKILL);
        let _ = self.leader.wait();
    }
}

/// How many processes of a group still run. One that has ended but that its new parent has not
/// asked after yet does not count.
pub fn living_members(group: Pid) -> usize {
    let processes = fs::read_dir("/proc").expect("Linux has it").flatten();
    let stats =
        processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
    let of_group = |stat: &String| {
        // pid (name) state parent group …
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.next() != Some("Z") && fields.nth(1) == Some(group.to_string().as_str())
    };
    stats.filter(of_group).count()
}
