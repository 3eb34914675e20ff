//! For fuzz/: what stands private in this folder.

/// Whether a file of this name is a message.
pub fn is_message(name: &[u8]) -> bool {
    super::count::is_message(name)
}
