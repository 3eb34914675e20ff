//! Text in columns.

use std::fmt;

/// Rows of cells, each column as wide as its widest cell, the last one as long as it is. Control
/// characters are not printed: cells hold what databases and peers said.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns are at least this wide, so that one page looks like the next.
    least: &'static [usize],
}

impl Table {
    /// A table with a head.
    #[must_use]
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()], least: &[] }
    }

    /// A table without a head, which goes on below another one of the same widths.
    #[must_use]
    pub fn with_widths(least: &'static [usize]) -> Self {
        Self { rows: Vec::new(), least }
    }

    /// One more row.
    pub fn push<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.map(|cell| cell.replace(char::is_control, "?")).to_vec());
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or_default();
        widest.max(self.least.get(column).copied().unwrap_or_default())
    }
}

/// One line a row, each with two blanks in front.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("  {cell:width$}"));
            }
            let end = if index + 1 < self.rows.len() { "\n" } else { "" };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_nothing_hostile_is_printed() {
        let mut table = Table::new(&["PHONE", "SHOWS", "WHY"]);
        table.push(["sip:202@h".into(), "3/0 (0/0)".into(), String::new()]);
        table.push(["é\u{1b}[2J".into(), "-".into(), "a\nb".into()]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "  PHONE      SHOWS      WHY",
                "  sip:202@h  3/0 (0/0)",
                "  é?[2J      -          a?b"
            ]
        );
    }
}
