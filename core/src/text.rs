//! Writing a message, piece by piece.

/// Writes texts and numbers to the end of a message. As `write!`, whose machinery takes several times
/// as long, and which might fail.
macro_rules! put {
    ($out:expr, $($piece:expr),+ $(,)?) => {{
        $($crate::text::Piece::put(&$piece, $out);)+
    }};
}

pub(crate) use put;

/// What can be written into a message as it is.
pub(crate) trait Piece {
    fn put(&self, out: &mut Vec<u8>);
}

impl Piece for str {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Piece for String {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        self.as_str().put(out);
    }
}

impl<T: Piece + ?Sized> Piece for Box<T> {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<T: Piece + ?Sized> Piece for &T {
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

macro_rules! numbers {
    ($($number:ty)+) => {
        $(impl Piece for $number {
            fn put(&self, out: &mut Vec<u8>) {
                itoa::Buffer::new().format(*self).put(out);
            }
        })+
    };
}

numbers!(u16 u32 u64 usize);

#[cfg(test)]
mod tests {
    #[test]
    fn pieces_follow_each_other() {
        let mut out = b"CSeq".to_vec();
        let name = String::from("NOTIFY");
        put!(&mut out, ": ", u32::MAX, " ", name, "\r\n", 0_usize);
        assert_eq!(out, b"CSeq: 4294967295 NOTIFY\r\n0");
    }
}
