//! Columns as runc prints them: at least 12 wide, with 3 blanks between.

const WIDTH_MIN: usize = 12;
const GAP: usize = 3;

/// Rows of `N` cells.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with a heading.
    pub(super) fn new(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned)] }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// All lines. The last column is as wide as it is.
    pub(super) fn text(&self) -> String {
        let width = |column: usize| {
            let lengths = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count() + GAP);
            lengths.max().unwrap_or(0).max(WIDTH_MIN)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let mut text = String::new();
        for row in &self.rows {
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let width = if column + 1 == N { 0 } else { width };
                text.push_str(&format!("{cell:width$}"));
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_runc_s() {
        let mut table = Table::new(["ID", "PID", "BUNDLE", "OWNER"]);
        table.row(["a", "1610", "/tmp/rc/bundle", "root"].map(str::to_owned));
        assert_eq!(
            table.text(),
            "ID          PID         BUNDLE           OWNER\na           1610        /tmp/rc/bundle   root\n"
        );
    }
}
