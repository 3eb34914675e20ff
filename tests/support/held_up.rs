//! A thread of another process that stands still, as it does when what it waits for never comes.

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Held up until dropped; the other threads of its process go on.
pub struct HeldUp(Pid);

impl HeldUp {
    /// The main thread of a process has the number of the process.
    pub fn thread(thread: i32) -> Self {
        let thread = Pid::from_raw(thread);
        ptrace::seize(thread, ptrace::Options::empty()).expect("this user may trace its child");
        let held = Self(thread);
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        held
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        // Gone when its process has ended.
        let _ = ptrace::detach(self.0, None);
    }
}
