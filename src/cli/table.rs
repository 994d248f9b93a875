//! How is a table printed? As kubectl does: columns padded to the widest cell, three spaces apart, no lines.

/// Rows of cells under a heading. Widths only grow, so that rows printed later line up with earlier ones.
pub struct Table {
    header: Vec<String>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

const GAP: usize = 3;

impl Table {
    pub fn new(header: impl IntoIterator<Item = impl Into<String>>) -> Table {
        let header: Vec<String> = header.into_iter().map(Into::into).collect();
        let widths = header.iter().map(|cell| cell.chars().count()).collect();
        Table { header, widths, rows: Vec::new() }
    }

    /// A row as long as the heading. Cells are kept to one line.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| one_line(cell.into())).collect();
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Heading and rows, each line behind `indent`.
    pub fn text(&mut self, indent: &str) -> String {
        let header = std::mem::take(&mut self.header);
        let head = line(indent, &header, &self.widths);
        self.header = header;
        head + &self.rows_text(indent)
    }

    /// The rows that were not taken yet, without the heading.
    pub fn rows_text(&mut self, indent: &str) -> String {
        self.rows.drain(..).map(|row| line(indent, &row, &self.widths)).collect()
    }
}

fn line(indent: &str, cells: &[String], widths: &[usize]) -> String {
    let mut line = indent.to_owned();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        line += cell;
        if index + 1 < cells.len() {
            line.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
        }
    }
    line.truncate(line.trim_end().len());
    line + "\n"
}

/// What would break the table, or reach the terminal as a command, is cut or escaped.
fn one_line(cell: String) -> String {
    if !cell.chars().any(char::is_control) {
        return cell;
    }
    let (first, cut) = match cell.split_once(['\n', '\r', '\u{c}']) {
        Some((first, _)) => (first, "..."),
        None => (cell.as_str(), ""),
    };
    first
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .chain(cut.chars())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_kubectl() {
        let mut table = Table::new(["NAME", "CLASS", "AGE"]);
        table.row(["platform", "gapi", "5s"]);
        table.row(["b\nc", "\u{1b}[2J", ""]);
        assert_eq!(table.text(""), "NAME       CLASS       AGE\nplatform   gapi        5s\nb...       \\u{1b}[2J\n");
        table.row(["x", "y", "1s"]);
        assert_eq!(table.rows_text("  "), "  x          y           1s\n");
    }
}
