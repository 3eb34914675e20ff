//! Questions that go together: a server is asked 2, 4, … 32 of a kind in one statement.

/// The most that go together.
const MOST: usize = 1 << SIZES;

const SIZES: u32 = 5;

/// How many of those that wait go together: a power of two, so that a connection keeps few statements
/// prepared. None are left waiting for others to come.
#[must_use]
pub fn together(waiting: usize) -> usize {
    1 << waiting.clamp(1, MOST).ilog2()
}

/// The least that go together and are so many.
pub(super) fn padded(count: usize) -> usize {
    count.next_power_of_two().max(2)
}

/// The statements for several questions.
#[derive(Debug)]
pub(super) enum Sizes {
    /// One for each number that goes together.
    Each(Vec<String>),
    /// One for any number: it takes arrays.
    Any(String),
    /// None is needed: nothing is sent anywhere.
    None,
}

impl Sizes {
    pub(super) fn each(write: impl Fn(usize) -> String) -> Self {
        Self::Each((1..=SIZES).map(|size| write(1 << size)).collect())
    }

    /// The statement for so many; `None` for one, and for a number that does not go together.
    pub(super) fn get(&self, count: usize) -> Option<&str> {
        match self {
            Self::Each(statements) => {
                let size = count.checked_ilog2()?.checked_sub(1)?;
                let statement = statements.get(size as usize).filter(|_| count.is_power_of_two());
                statement.map(String::as_str)
            }
            Self::Any(statement) => Some(statement.as_str()).filter(|_| count > 1),
            Self::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_wait_go_together_and_nobody_waits_for_others() {
        let sizes: Vec<usize> = [0, 1, 2, 3, 7, 8, 31, 32, 1000].map(together).to_vec();
        assert_eq!(sizes, [1, 1, 2, 2, 4, 8, 16, 32, 32]);
    }

    #[test]
    fn there_is_a_statement_for_each_size() {
        let sizes = Sizes::each(|count| count.to_string());
        for count in [2, 4, 8, 16, 32] {
            assert_eq!(sizes.get(count), Some(count.to_string().as_str()));
        }
        for count in [0, 1, 3, 33, 64] {
            assert_eq!(sizes.get(count), None, "{count}");
        }
        assert_eq!(Sizes::Any("it".to_owned()).get(33), Some("it"));
        assert_eq!(Sizes::Any("it".to_owned()).get(1), None);
    }
}
