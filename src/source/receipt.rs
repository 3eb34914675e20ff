//! Who waits until what a source said is safe.

use tokio::sync::oneshot;

use super::externnotify::FileReceipt;

/// Done when what was said is in the ledger, on the disk, or is of no use any more. One that is
/// dropped instead says that it is not safe.
#[derive(Debug)]
pub enum Receipt {
    /// The file of a call of externnotify, which stays until then.
    File(FileReceipt),
    /// A client that gets its answer then. Nobody may be left to hear it.
    Reply(oneshot::Sender<()>),
}

impl Receipt {
    /// It is safe.
    pub fn done(self) {
        match self {
            Self::File(file) => file.done(),
            Self::Reply(reply) => {
                let _ = reply.send(());
            }
        }
    }

    /// Whether somebody waits for this and does nothing meanwhile.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        matches!(self, Self::Reply(reply) if !reply.is_closed())
    }

    /// Whether what was said is on the disk by itself, over a crash too.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}
