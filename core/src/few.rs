//! A list that has one entry as a rule.

use std::ops::Deref;

/// One, or any other number: most accounts have one mailbox and one phone, and there may be 100,000 of
/// them. One takes no memory of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Few<T> {
    /// One.
    One(T),
    /// None, or several.
    Many(Box<[T]>),
}

impl<T> Few<T> {
    /// One more.
    pub(crate) fn push(&mut self, item: T) {
        *self = match std::mem::take(self) {
            Self::Many(none) if none.is_empty() => Self::One(item),
            Self::One(first) => Self::Many([first, item].into()),
            Self::Many(items) => {
                let mut items = items.into_vec();
                items.push(item);
                Self::Many(items.into())
            }
        };
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Many(items) => items,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items: Vec<T> = items.into_iter().collect();
        match items.pop() {
            Some(one) if items.is_empty() => Self::One(one),
            last => {
                items.extend(last);
                Self::Many(items.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list_of_any_length_in_the_order_of_its_entries() {
        let mut few = Few::default();
        assert!(few.is_empty());
        for count in 1..5_usize {
            few.push(count);
            assert_eq!(*few, (1..=count).collect::<Vec<_>>());
        }
        assert_eq!(few, (1..5).collect());
        assert_eq!([7].into_iter().collect::<Few<_>>(), Few::One(7));
    }
}
